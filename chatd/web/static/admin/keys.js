/**
 * Keys of the API, invite codes, and webhooks.
 *
 * Owns: Keys, Invites, Webhooks. Elsewhere: lists (table.js), what is asked (calls.js).
 * Fails: never; a refusal is shown beside its button.
 *
 * @module admin/keys
 */

import { Action, useLoaded } from "../dialog.js";
import { t } from "../texts.js";
import { html, useState } from "../ui.js";
import { get, part, post, session } from "./calls.js";
import { Form } from "./form.js";
import { duration, loading, moment, Table } from "./table.js";

const DAY_S = 86_400;

/** What is shown this once. */
function Secret({ text, children }) {
  return html`<div class="card" role="status"><p>${children}</p><p class="secret" tabindex="0">${text}</p></div>`;
}

export function Keys() {
  const [found, again, failure] = useLoaded(() => get("keys"), []);
  const [made, setMade] = useState("");
  if (found === null) return loading(failure);
  const makes = async (given) => {
    const wanted = { name: given.get("name"), scopes: given.getAll("scopes"), for_s: Number(given.get("days")) * DAY_S };
    setMade((await post("keys", wanted)).key);
    await again();
  };
  const rotates = async (name) => {
    setMade((await post("keys/rotate", { name })).key);
    await again();
  };
  const revokes = async (name) => {
    await post("keys/revoke", { name });
    await again();
  };
  const columns = [
    ["login.name", (one) => one.name],
    ["keys.state", (one) => t(`keys.${one.state}`)],
    ["keys.scopes", (one) => one.scopes.join(", ")],
    ["keys.by", (one) => one.by],
    ["users.created", (one) => moment(one.created_at_ms)],
    ["keys.until", (one) => (one.expires_at_ms ? moment(one.expires_at_ms) : "–")],
    ["keys.used", (one) => moment(one.used_at_ms)],
    ["", (one) => session.mayWrite && one.state === "valid" && html`
      <${Action} plain work=${() => rotates(one.name)}>${t("keys.rotate")}<//>
      <${Action} plain work=${() => revokes(one.name)} confirm=${t("keys.revoke.sure", { name: one.name })}>${t("keys.revoke")}<//>`],
  ];
  return html`
    ${made && html`<${Secret} text=${made}>${t("keys.once")}<//>`}
    <${Table} title=${t("nav.keys")} columns=${columns} rows=${found.keys} keyOf=${(one) => one.id} />
    ${session.mayWrite && html`
      <${Form} submit=${t("keys.make")} work=${makes}>
        <label>${t("login.name")} <input name="name" required maxlength="64" /></label>
        <label>${t("keys.days")} <input name="days" type="number" min="0" max="36500" value="90" required /></label>
        <label>${t("keys.scopes")} <select name="scopes" multiple required size="5">
          ${Object.entries(found.scopes).map(([scope, text]) => html`<option key=${scope} value=${scope} title=${text}>${scope}</option>`)}
        </select></label>
      <//>`}`;
}

export function Invites() {
  const [found, again, failure] = useLoaded(() => get("invites"), []);
  const [made, setMade] = useState("");
  if (found === null) return loading(failure);
  const makes = async (given) => {
    const wanted = { uses: Number(given.get("uses")), for_s: Number(given.get("days")) * DAY_S, note: given.get("note") };
    setMade((await post("invites", wanted)).code);
    await again();
  };
  const revokes = async (id) => {
    await post("invites/revoke", { id });
    await again();
  };
  const columns = [
    ["users.id", (one) => one.id],
    ["invites.used", (one) => `${one.used} / ${one.uses}`],
    ["invites.note", (one) => one.note],
    ["users.created", (one) => moment(one.created_at_ms)],
    ["keys.until", (one) => moment(one.expires_at_ms)],
    ["keys.state", (one) => t(one.valid ? "keys.valid" : one.revoked_at_ms ? "keys.revoked" : "keys.expired")],
    ["", (one) => session.mayWrite && one.valid && html`<${Action} plain work=${() => revokes(one.id)}>${t("keys.revoke")}<//>`],
  ];
  return html`
    ${made && html`<${Secret} text=${made}>${t("invites.once")}<//>`}
    <${Table} title=${t("nav.invites")} columns=${columns} rows=${found.invites} keyOf=${(one) => one.id} />
    ${session.mayWrite && html`
      <${Form} submit=${t("invites.make")} work=${makes}>
        <label>${t("invites.uses")} <input name="uses" type="number" min="1" max="100000" value="1" required /></label>
        <label>${t("keys.days")} <input name="days" type="number" min="1" max="36500" value="7" required /></label>
        <label>${t("invites.note")} <input name="note" maxlength="200" /></label>
      <//>`}`;
}

export function Webhooks() {
  const [found, again, failure] = useLoaded(() => get("v1/webhooks"), []);
  const [told, tell] = useState("");
  if (found === null) return loading(failure);
  const of = (name, what) => `v1/webhooks/${part(name)}/${what}`;
  const tries = async (name) => {
    const { ok, error, took_ms } = await post(of(name, "test"));
    tell(`${name}: ${ok ? t("webhooks.ok") : error} (${took_ms} ms)`);
  };
  const enables = async (name) => {
    await post(of(name, "enable"));
    await again();
  };
  const replays = async (name, how) => {
    await post(of(name, "replay"), how);
    await again();
  };
  const columns = [
    ["login.name", (one) => one.name],
    ["keys.state", (one) => one.state],
    ["webhooks.waiting", (one) => one.waiting ?? "–"],
    ["webhooks.lag", (one) => (one.lag_ms === null ? "–" : duration(one.lag_ms / 1000))],
    ["webhooks.delivered", (one) => one.delivered],
    ["webhooks.error", (one) => one.error],
    ["", (one) => session.mayWrite && html`
      <${Action} plain work=${() => tries(one.name)}>${t("webhooks.test")}<//>
      ${one.state === "disabled" && html`<${Action} plain work=${() => enables(one.name)}>${t("webhooks.enable")}<//>`}
      <${Action} plain work=${() => replays(one.name, { since_ms: Date.now() - 1000 * DAY_S })} confirm=${t("webhooks.day.sure")}>${t("webhooks.day")}<//>
      <${Action} plain work=${() => replays(one.name, { now: true })} confirm=${t("webhooks.skip.sure")}>${t("webhooks.skip")}<//>`],
  ];
  return html`
    <p role="status">${told}</p>
    <${Table} title=${t("nav.webhooks")} columns=${columns} rows=${found.webhooks} keyOf=${(one) => one.name} />`;
}
