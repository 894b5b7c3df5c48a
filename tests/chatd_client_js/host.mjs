// Runs pieces of JavaScript for tests/chatd_client_js/places.py: a line of JSON each, and a line for each answer.
// Arguments: the module of the client, stories.js, and where the package ws is.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [module, stories, tools] = process.argv.slice(2);
const chatd = await import(pathToFileURL(module));
Object.assign(globalThis, chatd, await import(pathToFileURL(stories)), { chatd });
globalThis.ws = () => createRequire(`${tools}/`)("ws");
const AsyncFunction = (async () => {}).constructor;

for await (const line of createInterface({ input: process.stdin })) {
  const { number, source } = JSON.parse(line);
  const answer = (result) => process.stdout.write(`${JSON.stringify({ number, ...result })}\n`);
  new AsyncFunction(source)().then((value) => answer({ value }), (error) => answer({ error: `${error?.stack ?? error}` }));
}
