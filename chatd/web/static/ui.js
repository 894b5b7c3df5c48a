/**
 * What every part of the page needs to draw itself: preact, htm, and being drawn again when a model changes.
 *
 * Owns: html, Model, useModel. Elsewhere: the library itself (vendor). Fails: never.
 *
 * @module ui
 */

import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";
import { useEffect, useReducer } from "./vendor/hooks.js";

export { render } from "./vendor/preact.js";
export { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";

/** A template of elements: html`<p class=${name}>${text}</p>`. Texts are always shown as texts, never as markup. */
export const html = htm.bind(h);

/** How often what is shown may change, ms. */
const DRAWN_EVERY_MS = 16;

/** Something that changes, and tells those who show it a moment later, however often. version: how often it changed. */
export class Model {
  version = 0;
  #readers = new Set();
  #told = true;

  /** Call after every change. */
  changed() {
    this.version += 1;
    if (!this.#told) return;
    this.#told = false;
    setTimeout(() => {
      this.#told = true;
      for (const reader of [...this.#readers]) reader();
    }, DRAWN_EVERY_MS);
  }

  /** Be called after changes. @param {() => void} reader @returns {() => void} ends it */
  subscribe(reader) {
    this.#readers.add(reader);
    return () => void this.#readers.delete(reader);
  }
}

/** Draw this component again whenever the model changes. @template {Model} T @param {T} model @returns {T} */
export function useModel(model) {
  const [, again] = useReducer((count) => count + 1, 0);
  const drawn = model.version;
  useEffect(() => {
    if (model.version !== drawn) again(); // it has changed since
    return model.subscribe(again);
  }, [model]);
  return model;
}
