/**
 * Groups and their members.
 *
 * Owns: Groups. Elsewhere: lists (table.js), what is asked (calls.js). Fails: never; a refusal is shown beside its button.
 *
 * @module admin/groups
 */

import { Action, Line, Select, useLoaded } from "../dialog.js";
import { t } from "../texts.js";
import { html, useState } from "../ui.js";
import { get, part, patch, put, remove, session } from "./calls.js";
import { Found } from "./found.js";
import { loading, moment } from "./table.js";

const path = (number, ...more) => ["v1/groups", number, ...more].join("/");
const ROLES = ["owner", "admin", "member"];

function Members({ number, version, changed }) {
  const of = (one) => path(number, "members", part(one.name));
  const roles = ROLES.map((role) => [role, t(`group.${role}`)]);
  const columns = [
    ["login.name", (one) => one.name],
    ["group.role", (one) => session.mayWrite
      ? html`<${Select} label="" value=${one.role} options=${roles} onChange=${async (role) => { await put(of(one), { role }); changed(); }} />`
      : t(`group.${one.role}`)],
    ["group.online", (one) => (one.online ? "●" : "–")],
    ["", (one) => session.mayWrite && html`
      <${Action} plain work=${async () => { await remove(of(one)); changed(); }} confirm=${t("group.remove.sure", { name: one.name })}>${t("group.remove")}<//>`],
  ];
  return html`
    <${Found} title=${t("group.members")} columns=${columns} keyOf=${(one) => one.id} version=${version}
      load=${(_, after) => get(path(number, "members"), { after })} rowsOf=${(page) => page.members} />`;
}

function One({ number, changed, gone }) {
  const [group, load, failure] = useLoaded(() => get(path(number)), [number]);
  const [version, setVersion] = useState(0);
  if (group === null) return html`<section class="card">${loading(failure)}</section>`;
  const again = async () => {
    setVersion((one) => one + 1);
    await load();
    changed();
  };
  const adds = async (name) => {
    await put(path(number, "members", part(name)), {});
    await again();
  };
  const renames = async (name) => {
    await patch(path(number), { name });
    await again();
  };
  const ends = async () => {
    await remove(path(number));
    gone();
  };
  const known = [
    ["group.number", group.number],
    ["group.owner", group.owner.name],
    ["group.members", group.members],
    ["users.created", moment(group.created_at_ms)],
    ["group.join", group.join],
    ["group.history", group.history],
  ];
  return html`
    <section class="card" aria-label=${group.name}>
      <h2 dir="auto">${group.name}</h2>
      <p dir="auto">${group.description}</p>
      <dl class="figures">${known.map(([label, value]) => html`<div key=${label}><dt>${t(label)}</dt><dd dir="auto">${value}</dd></div>`)}</dl>
      <${Members} number=${number} version=${version} changed=${again} />
      ${session.mayWrite && html`
        <div class="doing">
          <${Line} label=${t("login.name")} submit=${t("group.add")} work=${adds} />
          <${Line} label=${t("group.name")} submit=${t("group.rename")} work=${renames} />
          <${Action} plain work=${ends} confirm=${t("group.end.sure", { name: group.name })}>${t("group.end")}<//>
        </div>`}
    </section>`;
}

export function Groups() {
  const [chosen, setChosen] = useState(0);
  const [version, setVersion] = useState(0);
  const changed = () => setVersion((one) => one + 1);
  const columns = [
    ["group.name", (one) => html`<button type="button" class="plain" onClick=${() => setChosen(one.number)}>${one.name}</button>`],
    ["group.number", (one) => one.number],
    ["group.owner", (one) => one.owner.name],
    ["group.members", (one) => one.members],
    ["users.created", (one) => moment(one.created_at_ms)],
  ];
  return html`
    <${Line} label=${t("group.find")} submit=${t("group.show")} work=${async (number) => setChosen((await get(path(part(number)))).number)} />
    <${Found} title=${t("nav.groups")} columns=${columns} keyOf=${(one) => one.number} current=${chosen} version=${version}
      load=${(_, after) => get("v1/groups", { after })} rowsOf=${(page) => page.groups} />
    ${chosen !== 0 && html`<${One} key=${chosen} number=${chosen} changed=${changed} gone=${() => { setChosen(0); changed(); }} />`}`;
}
