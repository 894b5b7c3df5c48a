/**
 * Accounts: finding them, and what an operator does about one.
 *
 * Owns: Users. Elsewhere: lists (table.js), what is asked (calls.js). Fails: never; a refusal is shown beside its button.
 *
 * @module admin/users
 */

import { Action, Line, useLoaded } from "../dialog.js";
import { t } from "../texts.js";
import { html, useState } from "../ui.js";
import { Code, download, get, part, put, remove, session } from "./calls.js";
import { Form } from "./form.js";
import { Found } from "./found.js";
import { loading, moment, Table } from "./table.js";

const path = (name, ...more) => ["v1/users", part(name), ...more].join("/");

/** The sessions of one account, on all hosts. */
function Sessions({ name }) {
  const [found, again, failure] = useLoaded(() => get(path(name, "sessions")), [name]);
  if (found === null) return loading(failure);
  const columns = [
    ["users.wire", (one) => one.wire],
    ["users.since", (one) => moment(one.since_ms)],
    ["users.address", (one) => one.peer],
    ["users.host", (one) => `${one.host}/${one.worker}`],
  ];
  const end = async () => {
    await remove(path(name, "sessions"));
    await again();
  };
  return html`
    <${Table} title=${t("nav.clients")} columns=${columns} rows=${found.sessions} keyOf=${(one) => one.wire + one.peer} />
    ${session.mayWrite && found.sessions.length > 0 && html`<${Action} work=${end} confirm=${t("users.kick.sure")}>${t("users.kick")}<//>`}`;
}

function Doing({ user, again, gone }) {
  const { name } = user;
  const locks = async (reason) => {
    await put(path(name, "lock"), { reason });
    await again();
  };
  const unlocks = async () => {
    await remove(path(name, "lock"));
    await again();
  };
  const erases = async () => {
    await remove(path(name));
    gone();
  };
  return html`
    <div class="doing">
      ${user.locked_at_ms === null
        ? html`<${Line} label=${t("users.reason")} submit=${t("users.lock")} work=${locks} optional=${true} />`
        : html`<${Action} work=${unlocks}>${t("users.unlock")}<//>`}
      <${Line} label=${t("users.password")} submit=${t("users.password.set")} type="password" work=${(password) => put(path(name, "password"), { password })} />
      <${Action} plain work=${() => download(path(name, "export"), `${name}.zip`)}>${t("users.export")}<//>
      <${Action} plain work=${erases} confirm=${t("users.erase.sure", { name })}>${t("users.erase")}<//>
    </div>`;
}

function One({ name, changed, gone }) {
  const [user, load, failure] = useLoaded(() => get(path(name)), [name]);
  if (user === null) return html`<section class="card">${loading(failure)}</section>`;
  const again = async () => {
    await load();
    changed();
  };
  const known = [
    ["users.id", user.id],
    ["users.created", moment(user.created_at_ms)],
    ["users.seen", moment(user.last_seen_at_ms)],
    ["users.friends", user.friends],
    ["nav.groups", user.groups],
    ["users.locked", user.locked_at_ms === null ? "–" : `${moment(user.locked_at_ms)} ${user.lock_reason}`],
  ];
  return html`
    <section class="card" aria-label=${name}>
      <h2 dir="auto">${name}</h2>
      <dl class="figures">${known.map(([label, value]) => html`<div key=${label}><dt>${t(label)}</dt><dd dir="auto">${value}</dd></div>`)}</dl>
      <${Sessions} name=${name} />
      ${session.mayWrite && html`<${Doing} user=${user} again=${again} gone=${gone} />`}
    </section>`;
}

/** Making an account that there is would give it another password. @param {string} name */
async function exists(name) {
  try {
    await get(path(name));
    return true;
  } catch (error) {
    if (error.code === Code.UNKNOWN_RECIPIENT) return false;
    throw error;
  }
}

/** A new account. */
function NewUser({ done }) {
  const make = async (given) => {
    const name = given.get("name").trim();
    if (await exists(name)) throw new Error(t("users.taken", { name }));
    await put(path(name), { password: given.get("password") });
    done(name);
  };
  return html`
    <${Form} submit=${t("users.make")} work=${make}>
      <label>${t("login.name")} <input name="name" required maxlength="64" autocomplete="off" /></label>
      <label>${t("login.password")} <input name="password" type="password" required autocomplete="new-password" /></label>
    <//>`;
}

export function Users() {
  const [chosen, setChosen] = useState("");
  const [version, setVersion] = useState(0);
  const changed = () => setVersion((one) => one + 1);
  const columns = [
    ["login.name", (one) => html`<button type="button" class="plain" onClick=${() => setChosen(one.name)}>${one.name}</button>`],
    ["users.id", (one) => one.id],
    ["users.created", (one) => moment(one.created_at_ms)],
    ["users.seen", (one) => moment(one.seen_at_ms)],
    ["users.locked", (one) => (one.locked_at_ms ? moment(one.locked_at_ms) : "–")],
  ];
  return html`
    ${session.mayWrite && html`<${NewUser} done=${(name) => { setChosen(name); changed(); }} />`}
    <${Found} title=${t("nav.users")} label=${t("users.like")} columns=${columns} keyOf=${(one) => one.name} current=${chosen} version=${version}
      load=${(like, after) => get("users", { like, after })} rowsOf=${(page) => page.users} />
    ${chosen && html`<${One} key=${chosen} name=${chosen} changed=${changed} gone=${() => { setChosen(""); changed(); }} />`}`;
}
