// The client alone, with a server that the test plays: what a real server cannot be made to do, or only after hours.
// Run by test_units.py: node --test.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, Code, MemoryJournal, State, TIMING } from "../../clients/js/chatd.js";

const tick = (ms = 0) => new Promise((resolve) => setTimeout(resolve, ms));

const WELCOME = '{"code":0,"chatd":{"features":["seq"],"id":7}}';

/** A server that has one connection at a time. said: the packets of the client. */
class Server {
  constructor() {
    const server = this;
    this.said = [];
    this.connections = 0;
    this.answers = true;
    this.login = WELCOME;
    this.WebSocket = class {
      readyState = 0;
      constructor() {
        server.socket = this;
        server.connections += 1;
        queueMicrotask(() => {
          this.readyState = 1;
          this.onopen?.({});
        });
      }
      send(data) {
        const packet = JSON.parse(data);
        server.said.push(packet);
        server.raw = data;
        if (packet.type === 0) server.give({ type: 50, dataContent: server.login });
        if (packet.type === 1 && server.answers) server.give({ type: 51, dataContent: "{}" });
        if (packet.type === 2 && packet.to === "0") server.asked?.(JSON.parse(packet.dataContent), data);
      }
      close() {
        this.readyState = 3;
        queueMicrotask(() => this.onclose?.({ code: 1000, reason: "" }));
      }
    };
  }
  give(packet) {
    const { socket } = this;
    queueMicrotask(() => socket.onmessage?.({ data: typeof packet === "string" ? packet : JSON.stringify(packet) }));
  }
  answer(ref, result) {
    const content = JSON.stringify(`{"ref":${ref},"ok":true,"result":${result}}`);
    this.give(`{"type":2,"from":"0","to":"ann","fp":"re:${ref}","dataContent":${content}}`);
  }
  message(seq, text, { conv = 5, sm = 1000 + seq, fp = `fp ${seq}` } = {}) {
    this.give({ type: 2, from: "bob", to: "ann", dataContent: text, fp, QoS: true, seq, conv, sm });
  }
  drop(code = 1006, reason = "") {
    this.socket.onclose?.({ code, reason });
  }
  of(type) {
    return this.said.filter((packet) => packet.type === type);
  }
  client(options = {}) {
    const timing = { backoffFirst: 1, backoffMost: 5, ...options.timing };
    const chat = new Client("ws://server", "ann", { password: "x", WebSocket: this.WebSocket, ...options, timing });
    chat.heard = [];
    chat.on("*", (data, event) => chat.heard.push([event, data]));
    return chat;
  }
}

test("ids beyond 2^53 are exact, both ways", async () => {
  const server = new Server();
  const chat = await server.client().open();
  const pages = [
    '{"conversations":[{"id":9007199254740993,"with":"a 12345678901234567890","last":1}],"more":true}',
    '{"conversations":[{"id":-12,"with":"c","last":2}],"more":false}',
  ];
  const asked = [];
  server.asked = (request, data) => {
    asked.push(JSON.parse(data).dataContent);
    server.answer(request.ref, pages.shift());
  };
  const heads = [];
  for await (const head of chat.conversations.list()) heads.push([head.id, head.with]);
  assert.deepEqual(heads, [["9007199254740993", "a 12345678901234567890"], [-12, "c"]]);
  assert.match(asked[1], /"after":9007199254740993[,}]/);
  // Two conversations whose numbers would be one as floating-point numbers are two.
  for (const conv of ["9007199254740992", "9007199254740993"]) {
    server.give(`{"type":2,"from":"bob","to":"ann","dataContent":"x","fp":"${conv}","seq":1,"conv":${conv},"sm":5}`);
  }
  assert.equal((await chat.receive()).conversationId, "9007199254740992");
  assert.equal((await chat.receive()).conversationId, "9007199254740993");
  await chat.close();
});

test("a message is in the journal before it is sent, and leaves it afterwards", async () => {
  const server = new Server();
  const writes = [];
  class Slow extends MemoryJournal {
    async set(key, value) {
      if (key.startsWith("sent:")) await new Promise((resolve) => writes.push(resolve));
      await super.set(key, value);
    }
  }
  const journal = new Slow();
  const chat = await server.client({ journal }).open();
  const sent = [chat.send("bob", "one", { fp: "1" }), chat.send("bob", "two", { fp: "2" })];
  await tick(5);
  assert.equal(server.of(2).length, 0);
  writes[1]();
  await tick(5);
  assert.equal(server.of(2).length, 0, "two must not overtake one");
  writes[0]();
  await tick(5);
  assert.deepEqual(server.of(2).map((one) => one.dataContent), ["one"]);
  assert.deepEqual([...journal.map.keys()].sort(), ["owner", "sent:1", "sent:2"]);
  for (const [seq, fp] of [[1, "1"], [2, "2"]]) {
    server.give({ type: 4, dataContent: fp, seq, sm: 9 });
    await tick(5);
  }
  assert.deepEqual((await Promise.all(sent)).map((one) => one.seq), [1, 2]);
  await tick(5);
  assert.deepEqual([...journal.map.keys()], ["owner"]);
  await chat.close();
});

test("the next run sends what is left in order, and tells of what is too old", async () => {
  const server = new Server();
  const journal = new MemoryJournal();
  const written = (fp, order, writtenAt) => journal.set(`sent:${fp}`, { fp, to: "bob", text: fp, order, writtenAt });
  const now = Date.now();
  await Promise.all([written("third", 12, now), written("second", 3, now), written("old", 1, now - 7 * 864e5)]);
  const chat = server.client({ journal });
  const opening = chat.open();
  const fourth = chat.send("bob", "fourth", { fp: "fourth" });
  await opening;
  assert.deepEqual(chat.outbox.map((one) => one.fp), ["second", "third", "fourth"]);
  for (const fp of ["second", "third", "fourth"]) {
    await tick(5);
    assert.equal(server.of(2).at(-1).fp, fp);
    server.give({ type: 4, dataContent: fp, seq: 1 });
  }
  await fourth;
  const refused = chat.heard.filter(([event, data]) => event === "outbox" && data.state === "refused");
  assert.deepEqual(refused.map(([, { message, error }]) => [message.fp, error.name]), [["old", "NotAcknowledged"]]);
  await chat.close();
  assert.deepEqual([...journal.map.keys()], ["owner"]);
});

test("a journal that fails is given up, once, and the client goes on", async () => {
  const server = new Server();
  const fails = () => Promise.reject(new Error("no space"));
  const journal = { entries: async () => [], set: fails, delete: async () => {} };
  const chat = await server.client({ journal }).open();
  const sent = chat.send("bob", "hello", { fp: "1", timeout: 1e12 }); // too long for a timer
  await tick(5);
  server.give({ type: 4, dataContent: "1", seq: 1 });
  assert.equal((await sent).seq, 1);
  const lost = chat.heard.filter(([event]) => event === "journal.lost");
  assert.deepEqual(lost.map(([, { text }]) => text), ["Error: no space"]);
  await chat.close();
});

test("messages are known again over restarts, however many, until a server begins anew", async () => {
  const server = new Server();
  const journal = new MemoryJournal();
  const first = await server.client({ journal, inboxMessages: 5000 }).open();
  for (let seq = 1; seq <= 1100; seq += 1) server.message(seq, "x");
  for (let seq = 1; seq <= 1100; seq += 1) assert.equal((await first.receive()).seq, seq);
  await first.close();
  assert.equal(server.of(4).length, 1100);
  assert.equal(journal.map.get("seen:5").times.length, 256);

  const second = await server.client({ journal }).open();
  for (const seq of [1, 500, 844, 845, 1100, 1101]) server.message(seq, "again");
  assert.equal((await second.receive()).seq, 1101);
  assert.equal(server.of(4).length, 1105, "the copies are acknowledged");
  server.message(1, "of a server that has lost its data", { sm: 9e6 });
  server.message(1100, "a copy after that", { sm: 2100 });
  assert.equal((await second.receive()).text, "of a server that has lost its data");
  await second.close();
});

test("the memory is bounded", async () => {
  const server = new Server();
  const map = new Map();
  const set = async (key, value) => void map.set(key, value);
  const journal = { entries: async () => [], set, delete: async (key) => void map.delete(key) };
  const chat = await server.client({ journal }).open();
  for (let from = 1; from <= 33000; from += 500) {
    for (let conv = from; conv < from + 500; conv += 1) server.message(1, "x", { conv });
    for (let conv = from; conv < from + 500; conv += 1) await chat.receive();
  }
  await chat.close();
  assert.ok(map.size > 32000 && map.size <= 32769, `${map.size}`);
});

test("late timers, as those of a hidden page, do not end a connection that answers", async () => {
  const server = new Server();
  const chat = await server.client({ timing: { keepAlive: 30, answer: 20 } }).open();
  await tick(100); // more than keepAlive and answer together, with an answer to each sign of life
  const end = Date.now() + 80;
  while (Date.now() < end); // nothing runs meanwhile
  await tick(30);
  assert.equal(server.connections, 1);
  server.answers = false;
  while (server.connections === 1) await tick(5); // the silence is noticed
  await chat.close();
});

test("pauses grow and differ, and a draining server is given the time that it asks for", async () => {
  const server = new Server();
  const chat = await server.client({ timing: { backoffFirst: 1, backoffMost: 4 } }).open();
  const at = Date.now();
  const notice = '{"event":"draining","retry_after_ms":80,"resume_before":0}';
  server.give({ type: 2, from: "0", to: "ann", fp: "n", dataContent: notice });
  await tick(5);
  server.drop(1012, "the server is going away");
  assert.equal(chat.state, State.WAITING);
  while (chat.state !== State.LIVE) await tick(2);
  assert.ok(Date.now() - at >= 79);
  assert.equal(server.of(0).length, 2);
  assert.equal(TIMING.backoffFirst * 2 ** 6 < TIMING.backoffMost, true);
  await chat.close();
});

test("close codes that are final end the client although the packet was lost; others do not", async () => {
  const final = { 4001: "duplicate", 4002: "admin", 4008: "duplicate", 4009: "admin", 4011: "expired" };
  for (const [code, why] of Object.entries(final)) {
    const server = new Server();
    const chat = await server.client().open();
    server.drop(Number(code));
    assert.equal(chat.state, State.CLOSED);
    await assert.rejects(chat.receive(), { name: "Kicked", why });
  }
  for (const code of [1000, 1006, 1011, 1012, 1013, 4004, 4005, 4006, 4007]) {
    const server = new Server();
    const chat = await server.client().open();
    server.drop(code, "");
    while (chat.state !== State.LIVE) await tick(2);
    await chat.close();
  }
  const server = new Server();
  const chat = await server.client().open();
  server.drop(4010, "too many attempts");
  await tick(50);
  assert.equal(chat.state, State.WAITING);
  await chat.close({ settle: false });
});

test("too many attempts, and other refusals that pass, are tried again later", async () => {
  const server = new Server();
  server.login = `{"code":${Code.UNAVAILABLE}}`;
  const opening = server.client().open();
  await tick(20);
  server.login = WELCOME;
  await (await opening).close();
  server.login = `{"code":${Code.TOO_MANY_ATTEMPTS}}`;
  server.said = [];
  const client = server.client({ timing: { enter: 60 } });
  await assert.rejects(client.open(), { name: "Unreachable", message: /too many attempts/ });
  assert.equal(server.of(0).length, 1);
});

test("a text that came in parts is whole", async () => {
  const server = new Server();
  const chat = await server.client().open();
  const parts = { undefined: ["ab", 2], 2: ["cd", 4], 4: ["e", undefined] };
  server.asked = ({ ref, start }) => {
    const [text, cut] = parts[start];
    server.answer(ref, JSON.stringify({ messages: [{ seq: 1, from: "bob", text, cut }] }));
  };
  for await (const message of chat.conversations.history("bob", { limit: 1 })) assert.equal(message.text, "abcde");
  await chat.close();
});

test("what is not a packet, a handler that fails, and a second reader do no harm", async (context) => {
  const server = new Server();
  const chat = await server.client().open();
  const thrown = [];
  const later = globalThis.queueMicrotask;
  context.after(() => void (globalThis.queueMicrotask = later));
  globalThis.queueMicrotask = (work) => later(() => {
    try {
      work();
    } catch (error) {
      thrown.push(error.message);
    }
  });
  chat.on("presence", () => {
    throw new Error("of the program");
  });
  for (const data of ["", "null", "[]", "{", '{"type":99}', '{"type":54', '{"type":52}']) server.give(data);
  const notice = '{"event":"presence","user":{"id":1,"name":"bob"},"online":true}';
  server.give({ type: 2, from: "0", fp: "p", dataContent: notice });
  const waiting = chat.receive();
  await assert.rejects(chat.receive(), /two places/);
  server.message(1, "hello");
  assert.equal((await waiting).text, "hello");
  assert.equal(chat.state, State.LIVE);
  assert.deepEqual(thrown, ["of the program"]);
  await chat.close();
});

test("what is in flight is bounded, and a full outbox says so", async () => {
  const server = new Server();
  const chat = await server.client().open();
  const sent = Array.from({ length: 10000 }, (_, at) => chat.send(`user${at}`, "x").catch((error) => error.name));
  await tick(20);
  assert.equal(server.of(2).length, 64);
  await assert.rejects(chat.send("one more", "x"), { name: "Overloaded", temporary: true });
  const asked = Array.from({ length: 256 }, () => chat.request("whoami").catch((error) => error.name));
  await assert.rejects(chat.request("whoami"), { name: "Overloaded" });
  await chat.close({ settle: false });
  assert.deepEqual(new Set(await Promise.all([...sent, ...asked])), new Set(["ClientClosed"]));
});
