/**
 * A long list that is found by the beginning of a name, and loaded page by page.
 *
 * Owns: Found. Elsewhere: how it looks (table.js). Fails: never; a refusal is shown.
 *
 * @module admin/found
 */

import { Action } from "../dialog.js";
import { reasonOf } from "../refusals.js";
import { t } from "../texts.js";
import { html, useEffect, useRef, useState } from "../ui.js";
import { Table } from "./table.js";

/** After the last key, ms. */
const TYPED_MS = 250;

/**
 * @param {{title: string, label?: string, columns: any[], keyOf: (row: any) => any, current?: any, version: number,
 *   load: (like: string, after: any) => Promise<any>, rowsOf: (page: any) => any[]}} properties
 *   label: of the field for the beginning of a name; "" = there is none. version: another one loads the list again.
 *   load: one page; its `next` is what comes after it, null or "" = nothing. rowsOf: the rows of a page
 */
export function Found({ title, label = "", columns, keyOf, current, version, load, rowsOf }) {
  const [like, setLike] = useState("");
  const [shown, setShown] = useState({ rows: [], next: "" });
  const [failure, setFailure] = useState("");
  const latest = useRef(0);
  const first = async () => {
    const mine = (latest.current += 1);
    try {
      const page = await load(like, "");
      if (mine === latest.current) setShown({ rows: rowsOf(page), next: page.next });
      setFailure("");
    } catch (error) {
      if (mine === latest.current) setFailure(reasonOf(error));
    }
  };
  useEffect(() => {
    const timer = setTimeout(first, like ? TYPED_MS : 0);
    return () => clearTimeout(timer);
  }, [like, version]);
  const more = async () => {
    const page = await load(like, shown.next);
    setShown({ rows: [...shown.rows, ...rowsOf(page)], next: page.next });
  };
  return html`
    ${label && html`<div class="bar"><label>${label} <input type="search" value=${like} onInput=${(event) => setLike(event.currentTarget.value)} /></label></div>`}
    ${failure && html`<p role="alert" class="failure">${failure}</p>`}
    <${Table} title=${title} columns=${columns} rows=${shown.rows} keyOf=${keyOf} current=${current} />
    ${shown.next && html`<${Action} plain work=${more}>${t("admin.more")}<//>`}`;
}
