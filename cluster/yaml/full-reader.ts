/**
 * The complete reader: all of YAML, by the `yaml` package, with kubectl's meaning of scalars.
 *
 * In: the text of one document. Out: its value, or the line and the reason why it has none. Slow (about 1 MB/s),
 * so long documents are refused here; those that people and kubectl write never come so far (`block-reader.ts`).
 *
 * Aliases are shared, not copied, and what they would expand to is counted: a bomb is refused before it is lit.
 */

import type { Node, Pair } from "yaml";
import { isAlias, isMap, isPair, isScalar, isSeq, LineCounter, parseDocument, Scalar } from "yaml";
import { bareMap, isRawMap } from "./bare-map.ts";
import type { DuplicateKey, ManifestDocument } from "./document.ts";
import { resolvePlainScalar } from "./plain-scalar.ts";

/** Longest text for this reader, in characters: two seconds of work, and more than an API server stores in one object. */
export const MAX_FULL_YAML_CHARACTERS = 2 * 1024 * 1024;
/** Deepest nesting. Kubernetes objects stay below 30; a schema of a CustomResourceDefinition below 60. */
const MAX_DEPTH = 200;
/** Most values that all aliases of a document may stand for together. */
const MAX_ALIASED_VALUES = 100_000;
const MAX_DUPLICATE_KEYS = 20;
const TOO_DEEP = "it is nested too deeply";

/** Thrown inside this file only: the document cannot be read, for this reason, at this offset. */
class Unreadable extends Error {
  readonly offset: number | undefined;
  constructor(reason: string, offset: number | undefined) {
    super(reason);
    this.offset = offset;
  }
}

/** Reads one document of YAML. `firstLine` is the line of its first character. Null for a document without content. */
export function readFullDocument(text: string, firstLine: number): ManifestDocument | null {
  if (text.length > MAX_FULL_YAML_CHARACTERS) {
    return {
      kind: "broken",
      line: firstLine,
      reason: `the document is broken YAML, or uses anchors or tags in more than ${MAX_FULL_YAML_CHARACTERS / 1024 / 1024} MiB`,
    };
  }
  const nesting = tooDeep(text);
  if (nesting !== undefined) {
    return {
      kind: "broken",
      line: firstLine + lineOffset(text, nesting),
      reason: `it is nested deeper than ${MAX_DEPTH} levels`,
    };
  }
  const lines = new LineCounter();
  const lineAt = (offset: number | undefined): number =>
    offset === undefined ? firstLine : firstLine - 1 + Math.max(1, lines.linePos(offset).line);
  try {
    const document = parseDocument(text, {
      version: "1.2",
      schema: "failsafe",
      lineCounter: lines,
      uniqueKeys: false,
      strict: true,
      prettyErrors: false,
      logLevel: "silent",
    });
    const error = document.errors[0];
    if (error !== undefined)
      return { kind: "broken", line: lineAt(error.pos[0]), reason: reasonOf(error.message) };
    if (document.contents === null) return null;
    const converter = new Converter(lineAt);
    const value = converter.value(document.contents, 0);
    if (value === null) return null;
    return {
      kind: "read",
      line: lineAt(document.contents.range?.[0]),
      value,
      duplicateKeys: converter.duplicateKeys,
    };
  } catch (error) {
    if (error instanceof Unreadable)
      return { kind: "broken", line: lineAt(error.offset), reason: error.message };
    // The package recurses; a nesting that `tooDeep` cannot see would end here.
    if (error instanceof RangeError) return { kind: "broken", line: firstLine, reason: TOO_DEEP };
    throw error;
  }
}

/** The package's messages are sentences of their own; ours goes on after a colon. */
function reasonOf(message: string): string {
  if (message.startsWith("Maximum call stack")) return TOO_DEEP;
  const line = message.split("\n")[0] ?? message;
  return line.charAt(0).toLowerCase() + line.slice(1).replace(/[.:]$/, "");
}

/**
 * Offset at which brackets or dashes nest too deep, judged without parsing: text within quotes counts too, so this
 * errs towards refusing, at a depth that no real manifest comes near.
 */
function tooDeep(text: string): number | undefined {
  let depth = 0;
  let indicators = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 91:
      case 123:
        if (++depth > MAX_DEPTH) return at;
        break;
      case 93:
      case 125:
        if (depth > 0) depth--;
        break;
      case 10:
        indicators = 0;
        break;
      case 45:
      case 63:
      case 58:
        // `- - - -` and `? ? ?` nest once each.
        if (text.charCodeAt(at + 1) === 32 && ++indicators > MAX_DEPTH) return at;
        break;
      default:
    }
  }
  return undefined;
}

function lineOffset(text: string, offset: number): number {
  let count = 0;
  for (let at = text.indexOf("\n"); at >= 0 && at < offset; at = text.indexOf("\n", at + 1)) count++;
  return count;
}

interface Anchored {
  readonly value: unknown;
  /** How many values it is, aliases within it counted as what they stand for. */
  readonly size: number;
}

class Converter {
  readonly duplicateKeys: DuplicateKey[] = [];
  readonly #lineAt: (offset: number | undefined) => number;
  /** By name; a name that is given again means the later node from there on. `open`: its node is still being read. */
  readonly #anchors = new Map<string, Anchored | "open">();
  #size = 0;
  #aliased = 0;

  constructor(lineAt: (offset: number | undefined) => number) {
    this.#lineAt = lineAt;
  }

  value(node: Node | null, depth: number): unknown {
    if (node === null) return null;
    if (depth > MAX_DEPTH)
      throw new Unreadable(`it is nested deeper than ${MAX_DEPTH} levels`, node.range?.[0]);
    this.#size++;
    if (isAlias(node)) return this.#alias(node);
    const anchor = isScalar(node) || isMap(node) || isSeq(node) ? node.anchor : undefined;
    if (anchor === undefined) return this.#content(node, depth);
    const before = this.#size;
    this.#anchors.set(anchor, "open");
    const value = this.#content(node, depth);
    this.#anchors.set(anchor, { value, size: this.#size - before + 1 });
    return value;
  }

  #alias(node: Node & { readonly source: string }): unknown {
    const anchored = this.#anchors.get(node.source);
    if (anchored === undefined)
      throw new Unreadable(`the alias *${node.source} names no anchor`, node.range?.[0]);
    if (anchored === "open")
      throw new Unreadable(`the alias *${node.source} stands within itself`, node.range?.[0]);
    this.#aliased += anchored.size;
    this.#size += anchored.size;
    if (this.#aliased > MAX_ALIASED_VALUES) {
      throw new Unreadable(`its aliases stand for more than ${MAX_ALIASED_VALUES} values`, node.range?.[0]);
    }
    return anchored.value;
  }

  #content(node: Node, depth: number): unknown {
    if (isScalar(node)) return this.#scalar(node);
    if (isSeq(node)) {
      return node.items.map((item) => {
        // `[a: b]` is a list of one mapping.
        if (isPair(item)) return this.#mapping([item as Pair<Node, Node | null>], depth);
        return this.value(item as Node | null, depth + 1);
      });
    }
    if (isMap(node)) return this.#mapping(node.items as Pair<Node, Node | null>[], depth);
    throw new Unreadable("it holds a kind of node that no manifest has", node.range?.[0]);
  }

  #mapping(pairs: readonly Pair<Node, Node | null>[], depth: number): unknown {
    const map = bareMap<unknown>();
    let merged: Record<string, unknown> | undefined;
    for (const { key: keyNode, value: valueNode } of pairs) {
      if (isScalar(keyNode) && keyNode.value === "<<" && keyNode.type === Scalar.PLAIN) {
        merged ??= bareMap();
        this.#merge(merged, this.value(valueNode, depth + 1), keyNode.range?.[0]);
        continue;
      }
      const key = this.#key(keyNode, depth);
      if (map[key] !== undefined && this.duplicateKeys.length < MAX_DUPLICATE_KEYS) {
        this.duplicateKeys.push({ line: this.#lineAt(keyNode?.range?.[0]), key });
      }
      map[key] = this.value(valueNode, depth + 1);
    }
    if (merged === undefined) return map;
    // A key of the mapping itself wins over a merged one, wherever it stands.
    for (const key of Object.keys(merged)) if (!Object.hasOwn(map, key)) map[key] = merged[key];
    return map;
  }

  /** YAML 1.1's `<<`: a mapping, or a list of mappings of which the first to have a key wins. */
  #merge(into: Record<string, unknown>, value: unknown, offset: number | undefined): void {
    for (const source of Array.isArray(value) ? value : [value]) {
      if (!isRawMap(source))
        throw new Unreadable("a merge key << takes a mapping or a list of mappings", offset);
      for (const key of Object.keys(source)) {
        if (Object.hasOwn(into, key)) continue;
        into[key] = source[key];
        this.#aliased++;
      }
    }
    if (this.#aliased > MAX_ALIASED_VALUES) {
      throw new Unreadable(`its aliases stand for more than ${MAX_ALIASED_VALUES} values`, offset);
    }
  }

  #key(node: Node | null, depth: number): string {
    const value = this.value(node, depth + 1);
    if (typeof value === "string") return value;
    if (typeof value === "number" || typeof value === "boolean") return String(value);
    const what = value === null ? "null" : Array.isArray(value) ? "a list" : "a mapping";
    throw new Unreadable(`a key is ${what}, and JSON has only text as keys`, node?.range?.[0]);
  }

  #scalar(node: Scalar): unknown {
    // The failsafe schema leaves every scalar as text, and `tag` undefined unless one was written.
    const text = node.source ?? String(node.value);
    switch (node.tag) {
      case "tag:yaml.org,2002:str":
      case "tag:yaml.org,2002:timestamp":
        return text;
      case "tag:yaml.org,2002:binary":
        return Buffer.from(text, "base64").toString("utf8");
      case "tag:yaml.org,2002:int":
      case "tag:yaml.org,2002:float":
      case "tag:yaml.org,2002:bool":
      case "tag:yaml.org,2002:null": {
        const value = resolvePlainScalar(text);
        if (typeof value !== "string") return value;
        throw new Unreadable(`${JSON.stringify(text)} does not fit its tag ${node.tag}`, node.range?.[0]);
      }
      default:
        return node.type === Scalar.PLAIN ? resolvePlainScalar(text) : text;
    }
  }
}
