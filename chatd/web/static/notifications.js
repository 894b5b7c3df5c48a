/**
 * Notifications of the browser, for messages that come while nobody looks at the page.
 *
 * Owns: whether the user wants them, and showing them. Fails: never; a browser without them shows none.
 *
 * @module notifications
 */

import { lineOf } from "./files.js";
import { cut } from "./texts.js";

const KEY = "chatd.notifications";

export const isPossible = () => "Notification" in globalThis && Notification.permission !== "denied";

export const isWanted = () => isPossible() && Notification.permission === "granted" && localStorage.getItem(KEY) === "yes";

/** @param {boolean} wanted the browser asks the user, if it has not yet @returns {Promise<boolean>} whether they are shown from now on */
export async function want(wanted) {
  const granted = wanted && (await Notification.requestPermission()) === "granted";
  localStorage.setItem(KEY, granted ? "yes" : "no");
  return granted;
}

/** @param {import("./chat.js").Chat} chat @param {import("./chatd.js").Message} message */
export function announce(chat, { conversation, sender, text, files, seq }) {
  if (sender === chat.me.name || !document.hidden || !isWanted()) return;
  if (seq > 0 && seq <= chat.conversation(conversation).read) return;
  const shown = new Notification(chat.conversation(conversation).title, { body: cut(lineOf({ text, files }), 200), tag: conversation });
  shown.onclick = () => {
    window.focus();
    chat.show(conversation);
    shown.close();
  };
}
