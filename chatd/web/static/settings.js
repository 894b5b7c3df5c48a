/**
 * The user's choices: how the page looks, the profile, who may do what, the password, the sessions.
 *
 * Owns: Settings. Elsewhere: the language (texts.js), the theme (look.js). Fails: never; a refusal is shown beside its button.
 *
 * @module settings
 */

import { logInAgain } from "./account.js";
import { Action, Dialog, Select, useLoaded } from "./dialog.js";
import { setTheme, theme, THEMES } from "./look.js";
import { isPossible, isWanted, want } from "./notifications.js";
import * as push from "./push.js";
import { reasonOf } from "./refusals.js";
import { LANGUAGES, language, setLanguage, t, when } from "./texts.js";
import { html, useState } from "./ui.js";

const CHOICES = ["default", "everybody", "contacts", "friends", "nobody"];
const NAMES = { en: "English", zh: "中文" };

/** A form whose fields are sent together. */
function Form({ fields, submit, work, done }) {
  const [told, tell] = useState({ text: "", failed: false });
  const onSubmit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    try {
      await work(Object.fromEntries(new FormData(form)));
      tell({ text: done, failed: false });
    } catch (error) {
      tell({ text: reasonOf(error), failed: true });
    }
  };
  return html`
    <form class="fields" onSubmit=${onSubmit}>
      ${fields.map(({ name, label, ...more }) => html`<label key=${name}>${label}<input name=${name} dir="auto" ...${more} /></label>`)}
      <p role=${told.failed ? "alert" : "status"} class=${told.failed ? "failure" : ""}>${told.text}</p>
      <button type="submit">${submit}</button>
    </form>`;
}

function Notifications() {
  const [shows, setShows] = useState(isWanted());
  return html`
    <label class="choice"><input type="checkbox" checked=${shows} onChange=${async (event) => setShows(await want(event.currentTarget.checked))} />
      ${t("settings.notifications")}</label>`;
}

/** Shown where the server and the browser can. */
function Away({ chat }) {
  const [ways] = useLoaded(() => chat.client.push.key(), []);
  const [shows, setShows] = useState(push.isWanted(chat.me.name));
  const [failure, tell] = useState("");
  if (!ways?.key) return null;
  const choose = async (event) => {
    const box = event.currentTarget;
    try {
      setShows(await push.want(chat, box.checked));
      tell(push.isPossible() ? "" : t("settings.push_denied"));
    } catch (error) {
      box.checked = shows;
      tell(error.code ? reasonOf(error) : t("settings.push_failed"));
    }
  };
  return html`
    <label class="choice"><input type="checkbox" checked=${shows} onChange=${choose} /> ${t("settings.push")}</label>
    <p role="alert" class="failure">${failure}</p>`;
}

function Profile({ client }) {
  const [profile, , failure] = useLoaded(async () => (await client.profiles.get()).profile, []);
  if (profile === null) return html`<p role="status">${failure || t("app.loading")}</p>`;
  const fields = ["nickname", "status", "about"].map((name) => ({ name, label: t(`settings.${name}`), defaultValue: profile[name] ?? "" }));
  return html`<${Form} fields=${fields} submit=${t("app.save")} done=${t("settings.saved")} work=${(values) => client.profiles.set(values)} />`;
}

function Privacy({ client }) {
  const [choices, again, failure] = useLoaded(() => client.privacy.get(), []);
  if (choices === null) return html`<p role="status">${failure || t("app.loading")}</p>`;
  const { privacy, defaults } = choices;
  const nameOf = (one, what) => (one === "default" ? t("settings.default", { what: t(`settings.${defaults[what]}`) }) : t(`settings.${one}`));
  return ["write", "ask", "see", "add"].map((what) => html`
    <${Select} key=${what} label=${t(`settings.may.${what}`)} value=${privacy[what]} options=${CHOICES.map((one) => [one, nameOf(one, what)])}
      onChange=${async (one) => again(await client.privacy.set({ [what]: one }))} />`);
}

function Sessions({ client }) {
  const [sessions, again] = useLoaded(() => client.account.sessions(), []);
  return html`<ul>${sessions?.sessions.map((one) => html`
    <li class="person" key=${one.wire}><span>${one.wire}, ${one.peer}, ${when(one.since)}</span>
      ${one.this ? html`<em>${t("settings.this_session")}</em>`
        : html`<${Action} plain work=${async () => again(await client.account.endSession(one.wire))}>${t("settings.end_session")}<//>`}</li>`)}</ul>`;
}

/** @param {{chat: import("./chat.js").Chat, onClose: () => void, onLook: () => void}} properties onLook: texts or
 *   colours are other ones now */
export function Settings({ chat, onClose, onLook }) {
  const { client } = chat;
  const look = (set) => (value) => {
    set(value);
    onLook();
  };
  const change = async ({ old, password }) => {
    await client.request("password.change", { old, new: password });
    await logInAgain(chat.me.name, password); // the cookie ended with the old one
    await push.renew(chat); // and so did the subscription
  };
  const passwords = [
    { name: "old", label: t("settings.old_password"), type: "password", autocomplete: "current-password", required: true },
    { name: "password", label: t("settings.new_password"), type: "password", autocomplete: "new-password", required: true },
  ];
  return html`
    <${Dialog} title=${t("settings.title")} onClose=${onClose}>
      <${Select} label=${t("settings.language")} value=${language()} options=${LANGUAGES.map((one) => [one, NAMES[one]])} onChange=${look(setLanguage)} />
      <${Select} label=${t("settings.theme")} value=${theme()} options=${THEMES.map((one) => [one, t(`settings.theme.${one}`)])} onChange=${look(setTheme)} />
      ${isPossible() && html`<${Notifications} />`}
      ${push.isPossible() && html`<${Away} chat=${chat} />`}
      <h3>${t("settings.profile")}</h3><${Profile} client=${client} />
      <h3>${t("settings.privacy")}</h3><${Privacy} client=${client} />
      <h3>${t("settings.sessions")}</h3><${Sessions} client=${client} />
      <h3>${t("settings.password")}</h3>
      <${Form} fields=${passwords} submit=${t("settings.change")} done=${t("settings.saved")} work=${change} />
    <//>`;
}
