/**
 * Coming in and going out: what the page asks over HTTP. Everything else goes over the WebSocket.
 *
 * Owns: ways(), logIn(), logInAgain(), register(), ticket(), logOut().
 * Elsewhere: the other side (chatd/http/chat). Fails: Problem, with the code of the server; 0 = it does not answer.
 *
 * The cookie of a login is for the browser alone. For each connection of its WebSocket the page gets a ticket.
 *
 * @module account
 */

import { Problem } from "./refusals.js";

const STAYS = "chatd.stays";

async function call(what, body = {}) {
  let answer, told;
  try {
    answer = await fetch(`/chat/${what}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      credentials: "same-origin",
      redirect: "error",
    });
    told = await answer.json();
  } catch {
    throw new Problem("the server does not answer", 0);
  }
  if (!answer.ok) throw new Problem(told.detail ?? told.title ?? answer.statusText, told.code ?? 0);
  return told;
}

/** How one comes in, and who has. @returns {Promise<{name: string, registration: "open"|"invite"|"closed", login: string[], min_password_chars: number, path: string, text_bytes: number}>} */
export const ways = () => call("ways");

/** @param {string} name @param {string} secret @param {boolean} stay also when the browser is started again
 * @returns {Promise<{id: number, name: string}>} */
export function logIn(name, secret, stay) {
  localStorage.setItem(STAYS, stay ? "yes" : "no");
  return call("login", { name, secret, stay });
}

/** With another password, for as long as the login before. @param {string} name @param {string} secret */
export const logInAgain = (name, secret) => logIn(name, secret, localStorage.getItem(STAYS) === "yes");

/** @param {string} name @param {string} password @param {string} invite "" = none */
export const register = (name, password, invite) => call("register", { name, password, invite });

/** Of the user whose cookie the browser has. @returns {Promise<{id: number, name: string, secret: string}>} */
export const ticket = () => call("pass");

export const logOut = () => call("logout");
