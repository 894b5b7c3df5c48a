/**
 * Light or dark.
 *
 * Owns: the theme, as this browser remembers it. Elsewhere: the colours (style.css). Fails: never.
 *
 * @module look
 */

const KEY = "chatd.theme";
export const THEMES = ["system", "light", "dark"];

export const theme = () => localStorage.getItem(KEY) ?? "system";

/** @param {string} wanted one of THEMES */
export function setTheme(wanted) {
  localStorage.setItem(KEY, wanted);
  document.documentElement.dataset.theme = wanted;
}
