/** Secret of v1. No value of one ever comes into a diagnostic. */

import type { ObjectMeta, Secret } from "../model.ts";
import { isRawMap } from "../yaml/bare-map.ts";
import type { FieldReader } from "./field-reader.ts";
import { quote } from "./report.ts";

const KNOWN = new Set(["apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"]);
/** Alphabet of RFC 4648 §4 with its padding; line breaks within are allowed, as in Go. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

export function readSecret(root: FieldReader, meta: ObjectMeta): Secret | undefined {
  root.knowsOnly(KNOWN);
  const data = new Map<string, Uint8Array>();
  readTexts(root, "data", (key, text) => {
    const base64 = text.replaceAll(/[\r\n]/g, "");
    if (BASE64.test(base64)) data.set(key, Buffer.from(base64, "base64"));
    else root.fail(`data[${quote(key)}]`, "the value is not base64 (plain text belongs into stringData)");
  });
  readTexts(root, "stringData", (key, text) => data.set(key, Buffer.from(text, "utf8")));
  const type = root.text("type") || "Opaque";
  return root.failed ? undefined : { kind: "Secret", meta, type, data };
}

function readTexts(root: FieldReader, field: string, take: (key: string, text: string) => void): void {
  const value = root.raw[field];
  if (!root.has(field)) return;
  if (!isRawMap(value)) {
    root.fail(field, "a map of text to text is expected");
    return;
  }
  for (const key of Object.keys(value)) {
    const entry = value[key];
    if (typeof entry === "string") take(key, entry);
    else if (entry === null) take(key, "");
    else root.fail(`${field}[${quote(key)}]`, "the value is no text (quote it)");
  }
}
