/**
 * What the operator's page asks the server.
 *
 * Owns: get(), post(), put(), remove(), download(), Session. Elsewhere: the other side (chatd/http/admin).
 * Fails: Problem, with the code of the server; 0 = it does not answer.
 *
 * Whatever needs a fresh code of the second factor is asked again with one, which a window asks the operator for.
 *
 * @module admin/calls
 */

import { Problem } from "../refusals.js";
import { Model } from "../ui.js";

/** Codes of refusals that the page treats in a way of its own; chatd/errors.py. */
export const Code = Object.freeze({
  NOT_LOGGED_IN: 301, BAD_CREDENTIALS: 1025, UNKNOWN_RECIPIENT: 1032, UNKNOWN_GROUP: 1034, CODE_NEEDED: 1074, WRONG_CODE: 1075,
});

/** The operator did not give a code. */
export class Given extends Problem {}

/** Who is logged in, and the window that asks for a code. me: null = nobody. over: a session has ended.
 * asking: resolve() takes the code, or "" if there is none; null = nothing is asked. */
class Session extends Model {
  me = null;
  over = false;
  asking = null;
  askedBefore = false;

  get mayWrite() {
    return this.me?.role === "admin";
  }

  begun(me) {
    this.me = me;
    this.over = false;
    this.changed();
  }

  ended() {
    this.over = this.me !== null;
    this.me = null;
    this.answer("");
    this.changed();
  }

  /** @param {boolean} again the code before was wrong @returns {Promise<string>} "" = none */
  code(again) {
    return new Promise((resolve) => {
      this.asking = resolve;
      this.askedBefore = again;
      this.changed();
    });
  }

  answer(code) {
    const resolve = this.asking;
    this.asking = null;
    this.changed();
    resolve?.(code);
  }
}
export const session = new Session();

async function ask(method, path, body, headers) {
  let answer;
  try {
    answer = await fetch(`/admin/${path}`, {
      method,
      headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      redirect: "error",
      cache: "no-store",
    });
  } catch {
    throw new Problem("the server does not answer", 0);
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Problem(told.detail ?? told.title ?? answer.statusText, told.code ?? 0);
}

/** Asked again with a code, as long as one is needed. */
async function call(method, path, body, headers = {}) {
  let extra = {};
  for (;;) {
    try {
      return await ask(method, path, body, { ...headers, ...extra });
    } catch (error) {
      if (error.code === Code.NOT_LOGGED_IN && path !== "login") session.ended();
      if (error.code !== Code.CODE_NEEDED && error.code !== Code.WRONG_CODE) throw error;
      const code = await session.code(error.code === Code.WRONG_CODE);
      if (code === "") throw new Given(error.message, error.code);
      extra = { "Chatd-Code": code };
    }
  }
}

const told = async (answer) => (answer.status === 204 ? {} : await answer.json());

const withQuery = (path, query) => {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
  const text = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
  return text ? `${path}?${text}` : path;
};

/** @param {string} path below /admin/ @param {Record<string, string|number>} [query] left out if it is "" */
export const get = async (path, query = {}) => told(await call("GET", withQuery(path, query)));

/** What the page asks by itself, which does not keep the session alive. @param {string} path @param {Record<string, string|number>} [query] */
export const poll = async (path, query = {}) => told(await call("GET", withQuery(path, query), undefined, { "Chatd-Background": "1" }));
export const post = async (path, body = {}) => told(await call("POST", path, body));
export const put = async (path, body = {}) => told(await call("PUT", path, body));
export const patch = async (path, body = {}) => told(await call("PATCH", path, body));
export const remove = async (path) => told(await call("DELETE", path));

/** A file, saved by the browser. @param {string} path @param {string} name */
export async function download(path, name) {
  const blob = await (await call("GET", path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** An order of chatctl that changes nothing, one that does, and one that ends sessions. The master's reply. */
export const look = async (cmd, given = {}) => (await post("looks", { cmd, arguments: given })).reply;
export const order = async (cmd, given = {}) => (await post("orders", { cmd, arguments: given })).reply;
export const begin = async (cmd, given = {}) => (await post("orders/dangerous", { cmd, arguments: given })).reply;

/** A part of a path. @param {string|number} text */
export const part = (text) => encodeURIComponent(String(text));
