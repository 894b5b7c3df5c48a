/**
 * The page: logging in, and then the list of conversations beside the one that is shown.
 *
 * Owns: App, and starting it. Elsewhere: the parts (login.js, sidebar.js, thread.js), the model (chat.js).
 * Fails: never.
 *
 * @module app
 */

import { logOut, ticket, ways } from "./account.js";
import { Chat } from "./chat.js";
import { Code } from "./chatd.js";
import { Login } from "./login.js";
import { attend, leave } from "./push.js";
import { reasonOf } from "./refusals.js";
import { Sidebar } from "./sidebar.js";
import { setTheme, theme } from "./look.js";
import { Settings } from "./settings.js";
import { language, setLanguage, t } from "./texts.js";
import { Thread } from "./thread.js";
import { html, render, useEffect, useModel, useState } from "./ui.js";

/** Between two attempts to reach the server at the start, ms. */
const RETRY_MS = 3000;

function Status({ chat }) {
  const text = { connecting: t("app.connecting"), waiting: t("app.waiting") }[chat.state] ?? "";
  return html`<p class="status" role="status">${text}</p>`;
}

function Ended({ why, onAgain, onLogout }) {
  return html`
    <div class="ended" role="alertdialog" aria-modal="true" aria-label=${t(`ended.${why}`)}>
      <p>${t(`ended.${why}`)}</p>
      <button type="button" onClick=${onAgain}>${t("ended.take_over")}</button>
      <button type="button" class="plain" onClick=${onLogout}>${t("login.logout")}</button>
    </div>`;
}

function Conversations({ chat, onAgain, onLogout, onLook }) {
  useModel(chat);
  const [settings, setSettings] = useState(false);
  const { unread, shown, ended } = chat;
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) ${t("app.title")}` : t("app.title");
  }, [unread]);
  return html`
    <div class=${`app${shown ? " shows" : ""}`} data-state=${chat.state}>
      <header class="top">
        <h1 dir="auto">${chat.me.name}</h1>
        <${Status} chat=${chat} />
        <button type="button" class="plain" onClick=${() => setSettings(true)}>${t("settings.title")}</button>
        <button type="button" class="plain" onClick=${onLogout}>${t("login.logout")}</button>
      </header>
      <${Sidebar} chat=${chat} />
      ${shown ? html`<${Thread} conversation=${shown} />` : html`<main class="thread none"><p>${t("thread.none")}</p></main>`}
      ${settings && html`<${Settings} chat=${chat} onLook=${onLook} onClose=${() => setSettings(false)} />`}
      ${ended && html`<${Ended} why=${ended} onAgain=${onAgain} onLogout=${onLogout} />`}
    </div>`;
}

function App({ ways }) {
  const [chat, setChat] = useState(null);
  const [told, tell] = useState("");
  const [isComing, setComing] = useState(ways.name !== "");
  const [, setDrawn] = useState(0);
  const begin = async () => {
    const { name } = await ticket();
    const made = new Chat(name, ways, async () => (await ticket()).secret);
    await made.open();
    attend(made);
    setChat(made);
  };
  /** With the cookie that the browser has, if it still counts. */
  const again = async () => {
    setChat(null);
    setComing(true);
    try {
      await begin();
    } catch (error) {
      tell(error.code === Code.NOT_LOGGED_IN ? t("login.over") : reasonOf(error));
    }
    setComing(false);
  };
  const end = async () => {
    await leave(chat);
    await chat.close();
    await logOut().catch(() => {}); // the server is away, and the cookie ends with the browser, or in time
    setChat(null);
  };
  const look = () => {
    setDrawn((one) => one + 1);
    for (const one of [chat, ...chat.conversations.values()]) one.changed();
  };
  useEffect(() => void (ways.name && again()), []);
  if (chat === null && isComing) return html`<main class="login"><p role="status">${t("app.connecting")}</p></main>`;
  if (chat === null) return html`<${Login} ways=${ways} told=${told} onLogin=${begin} />`;
  return html`<${Conversations} chat=${chat} onLogout=${end} onLook=${look} onAgain=${again} />`;
}

/** A file that is dropped beside a conversation must not replace the page. */
function keepPage() {
  for (const kind of ["dragover", "drop"]) {
    addEventListener(kind, (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
  }
}

/** What one can do here must be known before anything is shown. */
async function start() {
  setLanguage(language());
  setTheme(theme());
  keepPage();
  const page = document.getElementById("app");
  for (;;) {
    try {
      render(html`<${App} ways=${await ways()} />`, page);
      return;
    } catch {
      render(html`<main class="login"><p role="status">${t("login.unreachable")}</p></main>`, page);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

start();
