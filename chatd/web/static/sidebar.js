/**
 * The list of conversations, and beginning a new one; people and groups in its place.
 *
 * Owns: Sidebar. Elsewhere: the conversations (chat.js), people and groups (people.js, groups.js). Fails: never.
 *
 * @module sidebar
 */

import { Line } from "./dialog.js";
import { lineOf } from "./files.js";
import { Groups } from "./groups.js";
import { People } from "./people.js";
import { cut, language, t, when } from "./texts.js";
import { html, useEffect, useMemo, useModel, useRef, useState } from "./ui.js";

const TABS = ["list", "people", "groups"];

/** Drawn again only if something of it has changed: there may be many. */
function Row({ conversation, isShown, onShow }) {
  useModel(conversation);
  const { newest, title, unread, key, chat, isGroup, version } = conversation;
  const online = !isGroup && chat.people.get(key)?.online;
  return useMemo(() => {
    const text = newest?.from === chat.me.name ? t("list.you", { text: lineOf(newest) }) : newest ? lineOf(newest) : "";
    return html`
      <li>
        <button type="button" class="row" aria-current=${isShown ? "true" : undefined} onClick=${() => onShow(key)}>
          <span class=${`name${online ? " online" : ""}`} dir="auto">${title}</span>
          <time>${newest ? when(newest.sm) : ""}</time>
          <span class="preview" dir="auto">${cut(text, 100)}</span>
          ${unread > 0 && html`<span class="count" aria-label=${t("list.unread", { count: unread })}>${unread}</span>`}
        </button>
      </li>`;
  }, [conversation, version, title, online, isShown, language()]);
}

/** So many conversations more are drawn when the end of the list comes near. */
const MORE = 100;

function List({ chat, onShow }) {
  const { listed, shown } = chat;
  const [most, setMost] = useState(MORE);
  const end = useRef(null);
  useEffect(() => {
    const bounds = { root: end.current.closest(".sidebar"), rootMargin: "1000px" };
    const watch = new IntersectionObserver(([one]) => one.isIntersecting && setMost((count) => count + MORE), bounds);
    watch.observe(end.current);
    return () => watch.disconnect();
  }, [most, listed.length > most]); // a new observer says at once whether the end is near
  return html`
    <${Line} label=${t("list.to")} submit=${t("list.new")} work=${async (typed) => onShow(await chat.nameOf(typed))} />
    ${listed.length === 0 && html`<p class="empty">${t("list.empty")}</p>`}
    <ul>${listed.slice(0, most).map((one) => html`<${Row} key=${one.key} conversation=${one} isShown=${one === shown} onShow=${onShow} />`)}</ul>
    <p ref=${end} class="end"></p>`;
}

/** @param {{chat: import("./chat.js").Chat}} properties */
export function Sidebar({ chat }) {
  useModel(chat);
  const [tab, setTab] = useState("list");
  const onShow = (key) => chat.show(key);
  const waiting = { list: 0, people: chat.requests.length, groups: chat.invitations.length };
  return html`
    <nav class="sidebar" aria-label=${t("list.title")}>
      <div class="tabs" role="tablist">
        ${TABS.map((one) => html`
          <button key=${one} type="button" role="tab" id=${`tab-${one}`} aria-controls="tab" aria-selected=${String(one === tab)} onClick=${() => setTab(one)}>
            ${t(`${one}.title`)}${waiting[one] > 0 && html` <span class="count">${waiting[one]}</span>`}</button>`)}
      </div>
      <div id="tab" role="tabpanel" aria-labelledby=${`tab-${tab}`}>
        ${tab === "list" && html`<${List} chat=${chat} onShow=${onShow} />`}
        ${tab === "people" && html`<${People} chat=${chat} onShow=${onShow} />`}
        ${tab === "groups" && html`<${Groups} chat=${chat} onShow=${onShow} />`}
      </div>
    </nav>`;
}
