/**
 * Several fields that are sent together.
 *
 * Owns: Form. Elsewhere: one field (Line in ../dialog.js), what is sent (calls.js).
 * Fails: never; a refusal is shown below the fields, which keep what was written.
 *
 * @module admin/form
 */

import { reasonOf } from "../refusals.js";
import { html, useRef, useState } from "../ui.js";

/**
 * @param {{submit: string, work: (given: FormData) => Promise<any>, children?: any}} properties
 *   children: the fields, by name; they are emptied once the work is done
 */
export function Form({ submit, work, children }) {
  const element = useRef(null);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setFailure("");
    try {
      await work(new FormData(element.current));
      element.current?.reset();
    } catch (error) {
      setFailure(reasonOf(error));
    }
    setBusy(false);
  };
  return html`
    <form class="bar" ref=${element} onSubmit=${send} aria-busy=${busy}>
      ${children}
      <button type="submit" disabled=${busy}>${submit}</button>
      ${failure && html`<p role="alert" class="failure">${failure}</p>`}
    </form>`;
}
