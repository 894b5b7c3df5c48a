/**
 * The service worker of the chat page: notifications while no page of the chat is open.
 *
 * Owns: showing what the server pushes, and opening its conversation. Elsewhere: subscribing (push.js), what is pushed
 * (docs/push.md). Fails: never; what cannot be read is shown as a message by somebody.
 *
 * It fetches nothing, and keeps nothing. The page says in which language it speaks.
 */

const TEXTS = {
  en: { title: "New message", one: "A message waits for you", many: "{count} messages wait for you" },
  zh: { title: "新消息", one: "您有一条新消息", many: "您有 {count} 条新消息" },
};
const texts = TEXTS[new URL(self.location.href).searchParams.get("language")] ?? TEXTS.en;

function noteOf(data) {
  try {
    return data.json() ?? {};
  } catch {
    return {};
  }
}

/** Whether somebody looks at the chat, and so sees the message there. */
async function isSeen() {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  return pages.some((one) => one.focused);
}

async function show({ for: user = "", count = 1, conversation = "", sender = "", text = "" }) {
  if (await isSeen()) return;
  const waiting = (count > 1 ? texts.many : texts.one).replace("{count}", String(count));
  const title = conversation.startsWith("#") ? `${sender} (${conversation})` : sender || texts.title;
  const body = text === "" ? waiting : count > 1 ? `${text}\n${waiting}` : text;
  const tag = `${user} ${conversation}`; // a later one of the same conversation replaces it
  await self.registration.showNotification(title, { body, tag, renotify: true, data: { user, conversation } });
}

async function open({ user, conversation }) {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((one) => new URL(one.url).pathname === "/");
  if (page === undefined) {
    await self.clients.openWindow(`/#${new URLSearchParams({ for: user, open: conversation })}`);
    return;
  }
  page.postMessage({ for: user, open: conversation });
  await page.focus();
}

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("push", (event) => event.waitUntil(show(noteOf(event.data))));
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data).catch(() => {})); // the browser does not let it: nothing is opened
});
