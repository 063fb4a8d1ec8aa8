/**
 * Every name that stands in somebody's manifest, and what becomes of it.
 *
 * Joined from the features, which own their names, from `known.ts` (what ingress-nginx knew) and from `others.ts`
 * (what is not honoured, and why). A name is honoured because a feature declares it, and for no other reason, so
 * this table cannot drift. It makes the reference (`reference.ts`), the report (`control/lint`) and the
 * diagnostics about annotations that nothing reads.
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import { nearestWord } from "../../cluster/objects/nearest-word.ts";
import { groups } from "../features/index.ts";
import { ANNOTATION_PREFIX, type Group, OLD_ANNOTATION_PREFIX } from "./group.ts";
import { knownAnnotations, type Section } from "./known.ts";
import { edgeSettings, otherSettings } from "./other-settings.ts";
import { historical, type OtherAnnotation, others } from "./others.ts";
import { aliasName, type Reader } from "./reader.ts";

export type Verdict = "honoured" | "honoured with a difference" | "ignored" | "refused";

export interface Entry {
  readonly name: string;
  readonly section: Section | "Names of older controllers";
  readonly type: string;
  readonly default?: string;
  readonly scope: "edge" | "host" | "route" | "backend";
  readonly verdict: Verdict;
  /** What it does here, or why it does nothing. A sentence. */
  readonly reason: string;
  readonly advice?: string;
  /** The feature that declares it. */
  readonly group?: string;
  /** The name whose other spelling it is. */
  readonly aliasOf?: string;
  /** It means something at an edge, and no feature honours it yet. */
  readonly pending?: true;
}

interface Declared {
  readonly group: Group;
  readonly name: string;
  readonly reader: Reader<unknown, unknown>;
  readonly aliasOf?: string;
}

/** By annotation name: canonical names and aliases. */
const declared: ReadonlyMap<string, Declared> = new Map(
  groups.flatMap((group) =>
    Object.entries(group.annotations).flatMap(([name, reader]): [string, Declared][] => [
      [name, { group, name, reader }],
      ...(reader.options.aliases ?? []).map((alias): [string, Declared] => [
        aliasName(alias),
        { group, name: aliasName(alias), reader, aliasOf: name },
      ]),
    ]),
  ),
);

const PENDING: OtherAnnotation = {
  verdict: "ignored",
  reason: "This version does not honour it yet.",
  advice: "Do not move this Ingress if it depends on it.",
};

/** The names of the last controller, in the order of its sections, then the older ones in the order of the alphabet. */
export const registry: readonly Entry[] = [
  ...knownAnnotations.map(({ name, section, type, default: byDefault, scope }): Entry => {
    const known = { name, section, type, scope, ...(byDefault === undefined ? {} : { default: byDefault }) };
    return entryOf(known, declared.get(name), others[name]);
  }),
  ...olderNames().map((name): Entry => {
    const found = declared.get(name);
    const known = {
      name,
      section: "Names of older controllers" as const,
      type: found?.reader.type ?? "",
      scope: "route" as const,
    };
    return entryOf(known, found, historical[name]);
  }),
];

const byName: ReadonlyMap<string, Entry> = new Map(registry.map((entry) => [entry.name, entry]));

/** For telling what a misspelled name was meant to be. */
export const annotationNames: ReadonlySet<string> = new Set(byName.keys());

function olderNames(): readonly string[] {
  const known = new Set(knownAnnotations.map(({ name }) => name));
  return [...new Set([...Object.keys(historical), ...declared.keys()])]
    .filter((name) => !known.has(name))
    .sort();
}

function entryOf(
  known: Pick<Entry, "name" | "section" | "type" | "default" | "scope">,
  found: Declared | undefined,
  other: OtherAnnotation | undefined,
): Entry {
  if (found === undefined) {
    return other === undefined ? { ...known, ...PENDING, pending: true } : { ...known, ...other };
  }
  const { reader, group, aliasOf } = found;
  const byDefault = defaultText(reader) ?? known.default;
  const { difference } = reader.options;
  return {
    ...known,
    type: reader.type,
    ...(byDefault === undefined ? {} : { default: byDefault }),
    verdict: difference === undefined ? "honoured" : "honoured with a difference",
    reason: [aliasOf === undefined ? reader.doc : `Another name of \`${aliasOf}\`.`, difference]
      .filter(Boolean)
      .join(" "),
    group: group.name,
    ...(aliasOf === undefined ? {} : { aliasOf }),
  };
}

/** The default in words. */
export function defaultText({ options }: Reader<unknown, unknown>): string | undefined {
  if (options.defaultText !== undefined) return options.defaultText;
  if (options.default === undefined) return undefined;
  return Array.isArray(options.default) ? options.default.join(",") : String(options.default);
}

/** What becomes of an annotation, by its whole key; `undefined` for keys that are none of ingress-nginx's. */
export function lookUp(
  key: string,
): { readonly name: string; readonly old: boolean; readonly entry?: Entry } | undefined {
  const prefix = [ANNOTATION_PREFIX, OLD_ANNOTATION_PREFIX].find((one) => key.startsWith(one));
  if (prefix === undefined) return undefined;
  const name = key.slice(prefix.length);
  const entry = byName.get(name);
  return { name, old: prefix === OLD_ANNOTATION_PREFIX, ...(entry === undefined ? {} : { entry }) };
}

/** What the owner of an Ingress is told about an annotation that no feature reads. */
export function judgeAnnotation(object: string, key: string): readonly Diagnostic[] {
  const found = lookUp(key);
  if (found === undefined) return [];
  const tell = (severity: Diagnostic["severity"], message: string): readonly Diagnostic[] => [
    { severity, kind: "Ingress", object, field: key, message },
  ];
  const { entry } = found;
  if (entry === undefined) {
    const near = nearestWord(found.name, annotationNames);
    const hint = near === undefined ? "" : ` Perhaps ${near} is meant.`;
    return tell("warning", `is not the name of any annotation of ingress-nginx; it does nothing.${hint}`);
  }
  const words = [entry.reason, entry.advice].filter(Boolean).join(" ");
  if (entry.verdict === "refused") return tell("error", `is refused. ${words}`);
  return tell(entry.pending ? "warning" : "info", `is ignored. ${words}`);
}

export interface SettingEntry {
  readonly name: string;
  readonly type: string;
  readonly default?: string;
  readonly verdict: Verdict;
  readonly reason: string;
  readonly advice?: string;
  readonly group?: string;
  readonly pending?: true;
}

/** Keys of the controller's ConfigMap, in the order of the alphabet. */
export const settingRegistry: readonly SettingEntry[] = (() => {
  const found = new Map<string, SettingEntry>();
  for (const name of edgeSettings) found.set(name, { name, type: "", ...PENDING, pending: true });
  for (const [name, other] of Object.entries(otherSettings)) found.set(name, { name, type: "", ...other });
  found.set("allow-cross-namespace-resources", {
    name: "allow-cross-namespace-resources",
    type: "boolean",
    default: "false",
    verdict: "honoured",
    reason: "Lets annotations name Secrets and ConfigMaps of other namespaces.",
  });
  for (const group of groups) {
    for (const [annotation, reader] of Object.entries<Reader<unknown, unknown>>(group.annotations)) {
      const { setting } = reader.options;
      if (setting === undefined) continue;
      found.set(
        setting,
        settingEntry(setting, group, reader, `The value where no annotation \`${annotation}\` gives one.`),
      );
    }
    for (const [name, reader] of Object.entries<Reader<unknown, unknown>>(group.settings)) {
      found.set(name, settingEntry(name, group, reader, reader.doc));
    }
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
})();

function settingEntry(
  name: string,
  group: Group,
  reader: Reader<unknown, unknown>,
  reason: string,
): SettingEntry {
  const byDefault = defaultText(reader);
  const { difference } = reader.options;
  return {
    name,
    type: reader.type,
    ...(byDefault === undefined ? {} : { default: byDefault }),
    verdict: difference === undefined ? "honoured" : "honoured with a difference",
    reason: difference === undefined ? reason : `${reason} ${difference}`,
    group: group.name,
  };
}

const settingsByName: ReadonlyMap<string, SettingEntry> = new Map(
  settingRegistry.map((entry) => [entry.name, entry]),
);

export function lookUpSetting(name: string): SettingEntry | undefined {
  return settingsByName.get(name);
}

/** What the owner of the ConfigMap is told about a key that no feature reads. */
export function judgeSetting(object: string, key: string): readonly Diagnostic[] {
  const entry = lookUpSetting(key);
  const tell = (severity: Diagnostic["severity"], message: string): readonly Diagnostic[] => [
    { severity, kind: "ConfigMap", object, field: `data.${key}`, message },
  ];
  if (entry === undefined)
    return tell("warning", "is not a key of ingress-nginx's ConfigMap; it does nothing.");
  if (entry.verdict === "honoured" || entry.verdict === "honoured with a difference") return [];
  const words = [entry.reason, entry.advice].filter(Boolean).join(" ");
  if (entry.verdict === "refused") return tell("error", `is refused. ${words}`);
  return tell(entry.pending ? "warning" : "info", `is ignored. ${words}`);
}
