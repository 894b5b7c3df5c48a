/**
 * Friends with their presence, requests to become friends, and blocks.
 *
 * Owns: People. Elsewhere: the lists (chat.js). Fails: never; a refusal is shown beside its button.
 *
 * @module people
 */

import { Action, Line, useLoaded } from "./dialog.js";
import { t, when } from "./texts.js";
import { html, useModel } from "./ui.js";

/** Whether somebody is online, as far as the user may see. */
export function presenceOf(person) {
  if (person?.online === undefined) return "";
  if (person.online) return t("presence.online");
  return person.last_seen ? t("presence.seen", { when: when(person.last_seen) }) : t("presence.offline");
}

function Request({ chat, name }) {
  return html`
    <li class="person"><span class="name" dir="auto">${name}</span>
      <${Action} work=${() => chat.answer(name, true)}>${t("people.accept")}<//>
      <${Action} plain work=${() => chat.answer(name, false)}>${t("people.refuse")}<//></li>`;
}

function Friend({ chat, name, onShow }) {
  return html`
    <li class="person">
      <button type="button" class="open plain" onClick=${() => onShow(name)}>
        <span class=${`name${chat.people.get(name)?.online ? " online" : ""}`} dir="auto">${name}</span>
        <span class="presence">${presenceOf(chat.people.get(name))}</span></button>
      <${Action} plain confirm=${t("people.remove_really", { name })} work=${() => chat.unfriend(name)}>${t("people.remove")}<//>
    </li>`;
}

function Blocks({ chat }) {
  const [blocked, again, failure] = useLoaded(() => chat.client.blocks.list(), [chat]);
  const change = async (work) => {
    await work;
    await again();
  };
  return html`
    <h2>${t("people.blocked")}</h2>
    ${failure && html`<p role="alert" class="failure">${failure}</p>`}
    <ul>${blocked?.map((one) => html`
      <li class="person" key=${one.id}><span class="name" dir="auto">${one.name}</span>
        <${Action} plain work=${() => change(chat.client.blocks.remove(one.name))}>${t("people.unblock")}<//></li>`)}</ul>
    <${Line} label=${t("list.to")} submit=${t("people.block")} work=${(name) => change(chat.client.blocks.add(name))} />`;
}

/** @param {{chat: import("./chat.js").Chat, onShow: (key: string) => void}} properties */
export function People({ chat, onShow }) {
  useModel(chat);
  const { friends, requests } = chat;
  return html`
    <section class="people" aria-label=${t("people.title")}>
      ${requests.length > 0 && html`
        <h2>${t("people.requests")}</h2>
        <ul>${requests.map((name) => html`<${Request} key=${name} chat=${chat} name=${name} />`)}</ul>`}
      <h2>${t("people.friends")}</h2>
      ${friends.length === 0 && html`<p class="empty">${t("people.none")}</p>`}
      <ul>${friends.map((name) => html`<${Friend} key=${name} chat=${chat} name=${name} onShow=${onShow} />`)}</ul>
      <${Line} label=${t("list.to")} submit=${t("people.ask")} work=${(name) => chat.askFriend(name)} />
      <${Blocks} chat=${chat} />
    </section>`;
}
