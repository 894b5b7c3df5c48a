/**
 * Logging in, and making an account.
 *
 * Owns: Login. Elsewhere: the server's side (account.js), what follows (app.js). Fails: never; a refusal is shown.
 *
 * @module login
 */

import { logIn, register } from "./account.js";
import { Code } from "./chatd.js";
import { reasonOf } from "./refusals.js";
import { t } from "./texts.js";
import { html, useState } from "./ui.js";

function reason(error) {
  if (error.code === Code.BAD_CREDENTIALS) return t("login.wrong");
  return error.code ? reasonOf(error) : t("login.unreachable");
}

function Fields({ isNew, ways }) {
  const takesPassword = ways.login.includes("password") || ways.login.includes("http");
  const label = t(takesPassword ? "login.password" : "login.token");
  return html`
    <label>${t("login.name")}
      <input name="name" required maxlength="64" autocomplete="username" autocapitalize="none" spellcheck="false" /></label>
    <label>${label}
      <input name="secret" type="password" required minlength=${isNew ? ways.min_password_chars : undefined}
        autocomplete=${isNew ? "new-password" : "current-password"} /></label>
    ${isNew && html`<label>${t("login.repeat")} <input name="again" type="password" required autocomplete="new-password" /></label>`}
    ${isNew && ways.registration === "invite" && html`<label>${t("login.invite")} <input name="invite" required autocomplete="off" /></label>`}
    <label class="check"><input name="stay" type="checkbox" /> ${t("login.stay")}</label>`;
}

/** @param {{ways: {registration: string, login: string[], min_password_chars: number}, told: string, onLogin: () => Promise<void>}} properties
 *   told: why the user must log in again */
export function Login({ ways, told, onLogin }) {
  const [isNew, setNew] = useState(false);
  const [failure, setFailure] = useState(told);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.currentTarget));
    const name = given.name.trim();
    setFailure("");
    if (isNew && given.secret !== given.again) {
      setFailure(t("login.differs"));
      return;
    }
    setBusy(true);
    try {
      if (isNew) await register(name, given.secret, given.invite ?? "");
      await logIn(name, given.secret, given.stay === "on");
      await onLogin();
    } catch (error) {
      setFailure(reason(error));
      setBusy(false);
    }
  };
  return html`
    <main class="login">
      <form onSubmit=${submit} aria-busy=${busy}>
        <h1>${t(isNew ? "login.register" : "login.title")}</h1>
        <${Fields} isNew=${isNew} ways=${ways} />
        <p role="alert" class="failure">${failure}</p>
        <button type="submit" disabled=${busy}>${t(isNew ? "login.register" : "login.submit")}</button>
        ${ways.registration !== "closed" && html`
          <button type="button" class="plain" onClick=${() => setNew(!isNew)}>${t(isNew ? "login.has_account" : "login.no_account")}</button>`}
      </form>
    </main>`;
}
