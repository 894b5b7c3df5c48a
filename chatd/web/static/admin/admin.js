/**
 * The operator's page: logging in with a second factor, and then one view at a time.
 *
 * Owns: App, the views by name, the window that asks for a code, and starting the page.
 * Elsewhere: the views, what they ask (calls.js). Fails: never.
 *
 * @module admin/admin
 */

import "./texts.js";
import { Dialog, Select } from "../dialog.js";
import { reasonOf } from "../refusals.js";
import { setTheme, theme, THEMES } from "../look.js";
import { LANGUAGES, language, setLanguage, t } from "../texts.js";
import { html, render, useEffect, useModel, useState } from "../ui.js";
import { Code, get, post, session } from "./calls.js";
import { Dashboard } from "./dashboard.js";
import { Groups } from "./groups.js";
import { Invites, Keys, Webhooks } from "./keys.js";
import { Samples } from "./samples.js";
import { Bans, Clients, Config, Log, Server } from "./server.js";
import { Users } from "./users.js";

/** By what follows # in the address. @type {Record<string, (properties: any) => any>} */
const VIEWS = {
  dashboard: Dashboard,
  users: Users,
  groups: Groups,
  clients: Clients,
  keys: Keys,
  webhooks: Webhooks,
  invites: Invites,
  bans: Bans,
  log: Log,
  config: Config,
  server: Server,
};
const NAMES = { en: "English", zh: "中文" };

const viewOf = () => (location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "dashboard");

function Login() {
  const [failure, setFailure] = useState(session.over ? t("admin.over") : "");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const { name, password, code } = Object.fromEntries(new FormData(event.currentTarget));
    setBusy(true);
    setFailure("");
    try {
      await post("login", { name: name.trim(), password, code });
      session.begun(await get("me"));
    } catch (error) {
      setFailure(error.code === Code.BAD_CREDENTIALS ? t("admin.wrong") : reasonOf(error));
      setBusy(false);
    }
  };
  return html`
    <main class="login">
      <form onSubmit=${submit} aria-busy=${busy}>
        <h1>${t("admin.login")}</h1>
        <label>${t("login.name")}
          <input name="name" required maxlength="64" autocomplete="username" autocapitalize="none" spellcheck="false" /></label>
        <label>${t("login.password")} <input name="password" type="password" required autocomplete="current-password" /></label>
        <label>${t("admin.code")} <input name="code" required inputmode="numeric" autocomplete="one-time-code" maxlength="16" /></label>
        <p role="alert" class="failure">${failure}</p>
        <button type="submit" disabled=${busy}>${t("login.submit")}</button>
      </form>
    </main>`;
}

/** Asks for a code that was not used before. */
function AskCode() {
  const submit = (event) => {
    event.preventDefault();
    session.answer(new FormData(event.currentTarget).get("code").trim());
  };
  return html`
    <${Dialog} title=${t("admin.code.title")} onClose=${() => session.answer("")}>
      <form class="fields" onSubmit=${submit}>
        <p>${t("admin.code.why")}</p>
        <label>${t("admin.code")} <input name="code" required inputmode="numeric" autocomplete="one-time-code" maxlength="16" autofocus /></label>
        <p role="alert" class="failure">${session.askedBefore ? t("admin.code.again") : ""}</p>
        <button type="submit">${t("admin.continue")}</button>
      </form>
    <//>`;
}

function Top({ onLook }) {
  const out = async () => {
    await post("logout").catch(() => {});
    session.ended();
  };
  const languages = LANGUAGES.map((one) => [one, NAMES[one]]);
  const themes = THEMES.map((one) => [one, t(`settings.theme.${one}`)]);
  return html`
    <header class="top">
      <h1>${t("admin.title")}</h1>
      <span class="who" dir="auto">${session.me.name}@${session.me.host}</span>
      ${!session.mayWrite && html`<span class="readonly">${t("admin.read")}</span>`}
      <${Select} label=${t("settings.language")} value=${language()} options=${languages} onChange=${(one) => onLook(setLanguage(one))} />
      <${Select} label=${t("settings.theme")} value=${theme()} options=${themes} onChange=${(one) => onLook(setTheme(one))} />
      <button type="button" class="plain" onClick=${out}>${t("login.logout")}</button>
    </header>`;
}

function Views({ samples }) {
  const [view, setView] = useState(viewOf());
  useEffect(() => {
    const moved = () => setView(viewOf());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const View = VIEWS[view];
  return html`
    <nav aria-label=${t("admin.title")}>
      <ul>
        ${Object.keys(VIEWS).map((name) => html`
          <li key=${name}><a href=${`#${name}`} aria-current=${name === view ? "page" : undefined}>${t(`nav.${name}`)}</a></li>`)}
      </ul>
    </nav>
    <main class="view" key=${view} aria-label=${t(`nav.${view}`)}><${View} samples=${samples} /></main>`;
}

function Inside() {
  const [samples] = useState(() => new Samples());
  const [, drawn] = useState(0);
  const looked = () => {
    document.title = t("admin.title");
    drawn((one) => one + 1);
  };
  useEffect(() => {
    samples.start();
    return () => samples.stop();
  }, []);
  return html`
    <div class="operator">
      <${Top} onLook=${looked} />
      <${Views} samples=${samples} />
      ${session.asking && html`<${AskCode} key=${session.version} />`}
    </div>`;
}

function App() {
  useModel(session);
  return session.me === null ? html`<${Login} />` : html`<${Inside} />`;
}

async function start() {
  setLanguage(language());
  setTheme(theme());
  document.title = t("admin.title");
  const me = await get("me").catch(() => ({ name: "" })); // the server is away: logging in says so
  if (me.name !== "") session.begun(me);
  render(html`<${App} />`, document.getElementById("app"));
}

start();
