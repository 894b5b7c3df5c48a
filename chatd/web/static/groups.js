/**
 * Groups: those of the user, invitations, and the window with the members and rules of one.
 *
 * Owns: Groups, GroupDetails. Elsewhere: the lists (chat.js). Fails: never; a refusal is shown beside its button.
 *
 * @module groups
 */

import { Action, Dialog, Line, Select, useLoaded } from "./dialog.js";
import { presenceOf } from "./people.js";
import { t } from "./texts.js";
import { html, useEffect, useModel, useState } from "./ui.js";

const JOIN = ["open", "approval", "invite"];
const HISTORY = ["all", "joining"];

function Invitation({ chat, invitation: { group, by } }) {
  return html`
    <li class="person"><span class="name" dir="auto">${group.name}</span>
      <span class="presence">${t("groups.invited_by", { name: by.name })}</span>
      <${Action} work=${() => chat.joinGroup(group.id)}>${t("groups.join")}<//>
      <${Action} plain work=${() => chat.declineGroup(group.id)}>${t("people.refuse")}<//></li>`;
}

/** @param {{chat: import("./chat.js").Chat, onShow: (key: string) => void}} properties */
export function Groups({ chat, onShow }) {
  useModel(chat);
  const [told, tell] = useState("");
  const join = async (text) => {
    const group = Number(text.replace(/^#/, ""));
    if (!Number.isSafeInteger(group) || group <= 0) throw new RangeError(t("groups.number_wrong"));
    const { joined } = await chat.joinGroup(group);
    tell(joined ? "" : t("groups.asked"));
    if (joined) onShow(`#${group}`);
  };
  const { groups, invitations } = chat;
  return html`
    <section class="people" aria-label=${t("groups.title")}>
      ${invitations.length > 0 && html`
        <h2>${t("groups.invitations")}</h2>
        <ul>${invitations.map((one) => html`<${Invitation} key=${one.group.id} chat=${chat} invitation=${one} />`)}</ul>`}
      <h2>${t("groups.title")}</h2>
      ${groups.size === 0 && html`<p class="empty">${t("groups.none")}</p>`}
      <ul>${[...groups].map(([key, group]) => html`
        <li class="person" key=${key}>
          <button type="button" class="open plain" onClick=${() => onShow(key)}>
            <span class="name" dir="auto">${group.name}</span><span class="presence">${key}</span></button></li>`)}</ul>
      <${Line} label=${t("groups.name")} submit=${t("groups.create")} work=${async (name) => onShow(await chat.createGroup(name))} />
      <${Line} label=${t("groups.number")} submit=${t("groups.join")} work=${join} />
      <p role="status">${told}</p>
    </section>`;
}

function Member({ chat, group, me, member, onChange }) {
  const { client } = chat;
  const { name, role } = member;
  const isMine = me.role === "owner" || (me.role === "admin" && role === "member");
  const change = (work) => async () => onChange(await work());
  return html`
    <li class="person">
      <span class=${`name${member.online ? " online" : ""}`} dir="auto">${name}</span>
      <span class="presence">${t(`groups.role.${role}`)}${member.muted ? `, ${t("groups.muted")}` : ""} ${presenceOf(member)}</span>
      ${isMine && name !== chat.me.name && html`<span class="actions">
        ${me.role === "owner" && html`
          <${Action} plain work=${change(() => client.groups.role(group, name, role === "admin" ? "member" : "admin"))}>
            ${t(role === "admin" ? "groups.make_member" : "groups.make_admin")}<//>
          <${Action} plain confirm=${t("groups.make_owner_really", { name })} work=${change(() => client.groups.role(group, name, "owner"))}>${t("groups.make_owner")}<//>`}
        <${Action} plain work=${change(() => (member.muted ? client.groups.unmute(group, name) : client.groups.mute(group, name)))}>
          ${t(member.muted ? "groups.unmute" : "groups.mute")}<//>
        <${Action} plain confirm=${t("groups.kick_really", { name })} work=${change(() => client.groups.kick(group, name))}>${t("groups.kick")}<//>
      </span>`}
    </li>`;
}

/** Who asks to join, and who is banned; for the owner and the admins. */
function Waiting({ chat, group, onChange, version }) {
  const { client } = chat;
  const [lists] = useLoaded(async () => [await client.groups.requests(group), await client.groups.bans(group)], [group, version]);
  const [requests, bans] = lists ?? [[], []];
  const change = (work) => async () => onChange(await work());
  return html`
    ${requests.length > 0 && html`<h3>${t("groups.requests")}</h3>`}
    <ul>${requests.map(({ user }) => html`
      <li class="person" key=${user.id}><span class="name" dir="auto">${user.name}</span>
        <${Action} work=${change(() => client.groups.approve(group, user.name))}>${t("groups.approve")}<//>
        <${Action} plain work=${change(() => client.groups.reject(group, user.name))}>${t("groups.reject")}<//></li>`)}</ul>
    ${bans.length > 0 && html`<h3>${t("groups.bans")}</h3>`}
    <ul>${bans.map(({ user }) => html`
      <li class="person" key=${user.id}><span class="name" dir="auto">${user.name}</span>
        <${Action} plain work=${change(() => client.groups.unban(group, user.name))}>${t("groups.unban")}<//></li>`)}</ul>`;
}

function Rules({ me, onSet }) {
  const isOwner = me.role === "owner";
  return html`
    <h3>${t("groups.rules")}</h3>
    <${Select} label=${t("groups.how_to_join")} value=${me.join} options=${JOIN.map((one) => [one, t(`groups.join.${one}`)])} disabled=${!isOwner} onChange=${(join) => onSet({ join })} />
    <${Select} label=${t("groups.past")} value=${me.history} options=${HISTORY.map((one) => [one, t(`groups.history.${one}`)])} disabled=${!isOwner} onChange=${(history) => onSet({ history })} />
    <label class="choice"><input type="checkbox" checked=${me.announcements} onChange=${(event) => onSet({ announcements: event.currentTarget.checked })} />
      ${t("groups.announcements")}</label>`;
}

/** @param {{chat: import("./chat.js").Chat, group: number, onClose: () => void}} properties */
export function GroupDetails({ chat, group, onClose }) {
  const { client } = chat;
  const [version, setVersion] = useState(0);
  const again = () => setVersion((one) => one + 1);
  const [loaded, , failure] = useLoaded(async () => [await client.groups.get(group), await client.groups.members(group)], [group, version]);
  useEffect(() => client.on("*", (notice, event) => event.startsWith("group.") && notice.group === group && again()), [group]);
  const title = chat.groups.get(`#${group}`)?.name ?? `#${group}`;
  if (loaded === null) return html`<${Dialog} title=${title} onClose=${onClose}><p role="status">${failure || t("app.loading")}</p><//>`;
  const [me, members] = loaded;
  const leads = me.role !== "member";
  const leave = async (work) => {
    await work;
    await chat.leftGroup(group);
    onClose();
  };
  return html`
    <${Dialog} title=${`${title} (#${group})`} onClose=${onClose}>
      ${me.group.description && html`<p dir="auto">${me.group.description}</p>`}
      ${leads && html`<${Line} label=${t("groups.rename")} submit=${t("app.save")} work=${async (name) => again(await client.groups.rename(group, name, me.group.description))} />`}
      <h3>${t("groups.members", { count: me.members })}</h3>
      <ul>${members.map((one) => html`<${Member} key=${one.id} chat=${chat} group=${group} me=${me} member=${one} onChange=${again} />`)}</ul>
      ${leads && html`
        <${Line} label=${t("list.to")} submit=${t("groups.invite")} work=${async (name) => again(await client.groups.invite(group, name))} />
        <${Waiting} chat=${chat} group=${group} onChange=${again} version=${version} />
        <${Rules} me=${me} onSet=${async (rules) => again(await client.groups.set(group, rules))} />`}
      <p class="ending">
        <${Action} plain confirm=${t("groups.leave_really")} work=${() => leave(client.groups.leave(group))}>${t("groups.leave")}<//>
        ${me.role === "owner" && html`<${Action} plain confirm=${t("groups.dissolve_really")} work=${() => leave(client.groups.dissolve(group))}>${t("groups.dissolve")}<//>`}
      </p>
    <//>`;
}
