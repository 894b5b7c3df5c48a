/**
 * Notifications while the user is away: subscribing this browser, and what a click on a notification opens.
 *
 * Owns: whether the user wants them here, attend(), leave(). Elsewhere: showing them (sw.js), sending them (docs/push.md).
 * Fails: want() with what the browser or the server says. Otherwise never: a browser that cannot is not subscribed.
 *
 * The choice is kept for each user of this browser. A browser is subscribed for one user at a time: for the one who is
 * logged in, until they log out.
 *
 * @module push
 */

import { language } from "./texts.js";

const keyOf = (name) => `chatd.push.${name}`;

/** Only this script may become a worker; the page's policy demands that it is said so. */
const policy = globalThis.trustedTypes?.createPolicy("chatd-worker", { createScriptURL: () => `/sw.js?language=${language()}` });
const script = () => policy?.createScriptURL("") ?? `/sw.js?language=${language()}`;

/** Whether this browser can, and this page may; not over plain HTTP from another host, for example. */
export const isPossible = () =>
  "serviceWorker" in navigator && "PushManager" in globalThis && "Notification" in globalThis && Notification.permission !== "denied";

/** @param {string} name the user */
export const isWanted = (name) => isPossible() && Notification.permission === "granted" && localStorage.getItem(keyOf(name)) === "yes";

const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

/** The subscription that the browser has. @returns {Promise<PushSubscription|null>} */
async function present() {
  const registration = await navigator.serviceWorker.getRegistration("/");
  return (await registration?.pushManager.getSubscription()) ?? null;
}

async function subscribe(client) {
  const { key } = await client.push.key();
  await navigator.serviceWorker.register(script());
  const { pushManager } = await navigator.serviceWorker.ready;
  let found = await pushManager.getSubscription();
  if (found !== null && base64(found.options.applicationServerKey) !== key) {
    await found.unsubscribe(); // it was made for another key of the server
    found = null;
  }
  found ??= await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  await client.push.subscribe(found.toJSON());
}

async function unsubscribe({ client, isLive }) {
  const found = await present();
  if (found === null) return;
  if (isLive) await client.push.unsubscribe(found.endpoint);
  await found.unsubscribe(); // if the server does not know it yet, the push service tells it
}

/** @param {import("./chat.js").Chat} chat @param {boolean} wanted the browser asks the user, if it has not yet
 * @returns {Promise<boolean>} whether the user is notified from now on */
export async function want(chat, wanted) {
  const granted = wanted && (await Notification.requestPermission()) === "granted";
  if (granted) await subscribe(chat.client);
  else await unsubscribe(chat);
  localStorage.setItem(keyOf(chat.me.name), granted ? "yes" : "no");
  return granted;
}

/** The password has changed, which ends the subscription. @param {import("./chat.js").Chat} chat */
export async function renew(chat) {
  if (!isPossible()) return;
  try {
    await (isWanted(chat.me.name) ? subscribe(chat.client) : unsubscribe(chat));
  } catch (error) {
    console.info(error); // the next login tries again
  }
}

async function show(chat, { for: user, open: conversation }) {
  if (user !== chat.me.name || !conversation) return;
  try {
    chat.show(await chat.nameOf(conversation));
  } catch (error) {
    console.info(error); // whoever made the link has named nobody
  }
}

/** The user has logged in: what a notification asks for is opened, now and later. @param {import("./chat.js").Chat} chat */
export function attend(chat) {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("open")) {
    history.replaceState(null, "", location.pathname);
    show(chat, { for: asked.get("for"), open: asked.get("open") });
  }
  if (!isPossible()) return;
  const told = (event) => {
    if (chat.isOver) navigator.serviceWorker.removeEventListener("message", told);
    else if (event.data?.open) show(chat, event.data);
  };
  navigator.serviceWorker.addEventListener("message", told);
  navigator.serviceWorker.startMessages();
  renew(chat);
}

/** The user logs out, and whoever uses this browser next must not see their notifications.
 * @param {import("./chat.js").Chat} chat */
export async function leave(chat) {
  if (isPossible()) await unsubscribe(chat).catch((error) => console.info(error));
}
