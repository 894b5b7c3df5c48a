// What the pieces of JavaScript in the tests may use, in Node.js and in a page: clients that are quick to come back, and
// checks. The names of the client's module are global there.

const QUICK = { connect: 3000, answer: 5000, backoffFirst: 10, backoffMost: 200, enter: 15000, send: 30000 };
const clients = {};

/** A client of this server by name, not open yet. server: {url, secret} */
export function make(server, name, { timing = {}, ...options } = {}) {
  const secret = options.token ? {} : { password: server.secret };
  const chat = new chatd.Client(server.url, name, { ...secret, ...options, timing: { ...QUICK, ...timing } });
  chat.heard = [];
  chat.on("*", (data, event) => chat.heard.push({ event, data: { ...data, at: Date.now() } }));
  return chat;
}

/** The same, logged in, and kept under its name. */
export async function login(server, name, options) {
  return (clients[name] = await make(server, name, options).open());
}

export const client = (name) => clients[name];

export function equal(actual, expected, what = "") {
  const [one, other] = [actual, expected].map((value) => JSON.stringify(value));
  if (one !== other) throw new Error(`${what} ${one} is not ${other}`);
}

export function check(truth, what) {
  if (!truth) throw new Error(`not so: ${what}`);
}

/** How a promise is refused: the class of the error, its code, and whether it is temporary. */
export async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return [error.constructor.name, error.code ?? null, error.temporary ?? null];
  }
  throw new Error("it was not refused");
}

export async function until(what, state, limit = 15000) {
  for (const end = Date.now() + limit; ; ) {
    const value = await state();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The data of the next event with this name; those before it are dropped. */
export function event(chat, name) {
  return until(`${name}, but ${JSON.stringify(chat.heard.slice(-5))}`, () => {
    const at = chat.heard.findIndex((one) => one.event === name);
    return at >= 0 && chat.heard.splice(0, at + 1).at(-1).data;
  });
}

export async function all(iterator) {
  const found = [];
  for await (const one of iterator) found.push(one);
  return found;
}

/** The texts of the next messages. */
export async function texts(chat, count) {
  const found = [];
  while (found.length < count) found.push((await chat.receive({ timeout: 10000 })).text);
  return found;
}

/** That nothing more comes. */
export async function nothing(chat, ms = 120) {
  equal((await refused(chat.receive({ timeout: ms })))[0], "NoAnswer");
}

/** Reads for ever into chat.got. */
export function read(chat) {
  chat.got = [];
  chat.reading = (async () => {
    for await (const message of chat.messages()) {
      chat.got.push([message.sender, message.text]);
      if (chat.slow) await new Promise((resolve) => setTimeout(resolve, chat.slow));
    }
  })();
  chat.reading.catch(() => {});
}
