/**
 * The field to write in, and the files that go with what is written.
 *
 * Owns: Composer. Elsewhere: sending (conversation.js), how chosen files are drawn (attachments.js). Fails: never.
 *
 * @module composer
 */

import { Tray } from "./attachments.js";
import { filesOf, lineOf } from "./files.js";
import { t } from "./texts.js";
import { html, useEffect, useRef, useState } from "./ui.js";

/** A paper clip. */
const CLIP = "M20 11.5 11.5 20a5 5 0 0 1-7-7L13 4.5a3.4 3.4 0 0 1 4.8 4.8L9.3 17.8a1.7 1.7 0 0 1-2.4-2.4L15 7.3";

/** The button that asks for files. @param {{conversation: import("./conversation.js").Conversation}} properties */
function Choose({ conversation }) {
  const input = useRef(null);
  const onChange = ({ currentTarget }) => {
    conversation.stage([...currentTarget.files]);
    currentTarget.value = ""; // the same file may be chosen again
  };
  return html`
    <input type="file" multiple hidden ref=${input} onChange=${onChange} />
    <button type="button" class="plain attach" aria-label=${t("files.attach")} title=${t("files.attach")} onClick=${() => input.current.click()}>
      <svg viewBox="0 0 24 24" width="22" height="22" fill="none" stroke="currentColor" stroke-width="2" aria-hidden="true"><path d=${CLIP} /></svg>
    </button>`;
}

export function Composer({ conversation, reply, onReply }) {
  const field = useRef(null);
  const [text, setText] = useState(conversation.draft);
  const { chat, staged, staging } = conversation;
  const isEmpty = text.trim() === "" && staged.length + staging === 0;
  const write = (value) => {
    setText(value);
    conversation.type(value);
  };
  useEffect(() => {
    setText(conversation.draft);
    field.current.focus();
  }, [conversation, reply]);
  const send = (event) => {
    event.preventDefault();
    if (isEmpty) return;
    conversation.send(text.trim() === "" ? "" : text, reply ? { reply: reply.seq } : {});
    write("");
    onReply(null);
    field.current.focus();
  };
  const onKeyDown = (event) => {
    // While an input method composes a character, Enter belongs to it; 229 is what older browsers say then.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) send(event);
    else if (event.key === "Escape" && reply) onReply(null);
  };
  const onPaste = (event) => {
    const files = filesOf(event.clipboardData);
    if (files.length === 0) return;
    event.preventDefault();
    conversation.stage(files);
  };
  const name = conversation.title;
  return html`
    <form class="composer" onSubmit=${send}>
      ${reply && html`
        <p class="replying"><span>${reply.from}: ${lineOf(reply).slice(0, 120)}</span>
          <button type="button" onClick=${() => onReply(null)}>${t("app.cancel")}</button></p>`}
      <${Tray} conversation=${conversation} />
      ${chat.limits.max_bytes > 0 && html`<${Choose} conversation=${conversation} />`}
      <textarea ref=${field} rows="1" dir="auto" aria-label=${t("thread.write", { name })} placeholder=${t("thread.write", { name })}
        value=${text} onInput=${(event) => write(event.currentTarget.value)} onKeyDown=${onKeyDown} onPaste=${onPaste}></textarea>
      <button type="submit" disabled=${isEmpty}>${t("thread.send")}</button>
    </form>`;
}
