/**
 * Windows in front of the page, and buttons that do something which takes a moment.
 *
 * Owns: Dialog, Action, Line, Select, useLoaded. Elsewhere: what is in them. Fails: an action that is refused says why beside its button.
 *
 * @module dialog
 */

import { reasonOf } from "./refusals.js";
import { t } from "./texts.js";
import { html, useEffect, useRef, useState } from "./ui.js";

/** Keeps the focus until it is closed, by its button or Escape.
 * @param {{title: string, onClose: () => void, onKeyDown?: (event: KeyboardEvent) => void, children?: any}} properties */
export function Dialog({ title, onClose, onKeyDown, children }) {
  const element = useRef(null);
  useEffect(() => {
    const { current } = element;
    const before = document.activeElement;
    current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`
    <dialog ref=${element} aria-label=${title} onClose=${onClose} onKeyDown=${onKeyDown}>
      <header><h2>${title}</h2>
        <button type="button" class="plain" onClick=${() => element.current.close()}>${t("app.close")}</button></header>
      <div class="content">${children}</div>
    </dialog>`;
}

/**
 * A button. While its work is done, it cannot be pressed again.
 * @param {{work: () => Promise<any>, confirm?: string, plain?: boolean, disabled?: boolean, label?: string, children?: any}} properties
 *   confirm: a question that is asked first. label: what it does, where its text does not say
 */
export function Action({ work, confirm, plain, disabled, label, children }) {
  const [state, setState] = useState({ busy: false, failure: "", asks: false });
  const isHere = useRef(true);
  useEffect(() => () => void (isHere.current = false), []);
  const tell = (next) => isHere.current && setState({ busy: false, failure: "", asks: false, ...next });
  const run = async () => {
    tell({ busy: true });
    try {
      await work();
      tell({});
    } catch (error) {
      tell({ failure: reasonOf(error) });
    }
  };
  if (state.asks) {
    return html`
      <span class="confirm" role="group" aria-label=${confirm}>${confirm}
        <button type="button" class="danger" onClick=${run}>${children}</button>
        <button type="button" class="plain" onClick=${() => tell({})}>${t("app.cancel")}</button></span>`;
  }
  return html`
    <span class="action">
      <button type="button" class=${plain ? "plain" : ""} disabled=${disabled || state.busy} aria-label=${label}
        onClick=${confirm ? () => tell({ asks: true }) : run}>${children}</button>
      ${state.failure && html`<span role="alert" class="failure">${state.failure}</span>`}
    </span>`;
}

/**
 * One line to fill in.
 * @param {{label: string, submit: string, work: (value: string) => Promise<any>, type?: string, optional?: boolean}} properties
 *   optional: it may be empty
 */
export function Line({ label, submit, work, type = "text", optional = false }) {
  const [value, setValue] = useState("");
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);
  const onSubmit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setFailure("");
    try {
      await work(value.trim());
      setValue("");
    } catch (error) {
      setFailure(reasonOf(error));
    }
    setBusy(false);
  };
  return html`
    <form class="line" onSubmit=${onSubmit}>
      <input type=${type} aria-label=${label} placeholder=${label} value=${value} autocapitalize="none" autocomplete="off"
        onInput=${(event) => setValue(event.currentTarget.value)} />
      <button type="submit" disabled=${busy || (!optional && value.trim() === "")}>${submit}</button>
      ${failure && html`<p role="alert" class="failure">${failure}</p>`}
    </form>`;
}

/** A choice. @param {{label: string, value: string, options: [string, string][], disabled?: boolean, onChange: (value: string) => void}} properties
 *   options: each value, and how it is called */
export function Select({ label, value, options, disabled, onChange }) {
  return html`
    <label class="choice">${label}
      <select value=${value} disabled=${disabled} onChange=${(event) => onChange(event.currentTarget.value)}>
        ${options.map(([key, name]) => html`<option key=${key} value=${key}>${name}</option>`)}
      </select></label>`;
}

/** Something that is loaded from the server when it is first shown. @template T @param {() => Promise<T>} load
 * @param {any[]} inputs it is loaded again when one of them changes @returns {[T|null, () => Promise<void>, string]} */
export function useLoaded(load, inputs) {
  const [loaded, setLoaded] = useState(null);
  const [failure, setFailure] = useState("");
  const latest = useRef(0);
  const again = async () => {
    const mine = (latest.current += 1);
    try {
      const found = await load();
      if (mine !== latest.current) return;
      setLoaded(found);
      setFailure("");
    } catch (error) {
      if (mine === latest.current) setFailure(reasonOf(error));
    }
  };
  useEffect(() => {
    again();
    return () => void (latest.current += 1);
  }, inputs);
  return [loaded, again, failure];
}
