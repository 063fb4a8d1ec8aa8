/**
 * A group of annotations that are read together because they mean one thing together, and the reading of it.
 *
 * In: the annotations of an Ingress and the settings of the controller. Out: one value a reader, what is wrong
 * with the texts, and whether the whole group is switched off by something unreadable.
 * Not here: what the values mean (`control/features`).
 *
 * Precedence, first found wins: the name under `nginx.ingress.kubernetes.io/`, then under the older
 * `ingress.kubernetes.io/`; then its aliases in turn, likewise; then the ConfigMap key; then the default. An
 * empty text counts as absent, as in ingress-nginx (reference §0.1).
 */

import type { ObjectName } from "../../edge-config/config.ts";
import { aliasName, type Reader, type ReaderOptions, type Readers, type Values } from "./reader.ts";
import { quote } from "./readers.ts";

export const ANNOTATION_PREFIX = "nginx.ingress.kubernetes.io/";
/** What ingress-nginx read until 0.9; the newer prefix wins. */
export const OLD_ANNOTATION_PREFIX = "ingress.kubernetes.io/";

/**
 * What an unreadable text does to its group. `omit`: the feature is off, its closed state. `deny`: every route of
 * the Ingress answers 503. `ignore`: the default counts, for values that open nothing (sizes, time-outs).
 */
export type OnInvalid = "omit" | "deny" | "ignore";

export interface Group<A extends Readers = Readers, S extends Readers = Readers> {
  readonly name: string;
  /** What the group does, in a sentence or two, for the reference. */
  readonly doc: string;
  readonly onInvalid: OnInvalid;
  /** What an unreadable text means here, where that is not what `onInvalid` says; ends a sentence. */
  readonly whenUnreadable?: string;
  readonly annotations: A;
  /** Keys of the controller's ConfigMap that no annotation stands for. */
  readonly settings: S;
}

/** Something wrong, or worth knowing, about one annotation or one key of the ConfigMap. */
export interface Problem {
  readonly severity: "error" | "warning" | "info";
  /** The annotation's whole key as somebody wrote it, or the key of the ConfigMap. */
  readonly key: string;
  readonly message: string;
}

export interface GroupReading<G extends Group> {
  readonly annotations: Values<G["annotations"]>;
  readonly settings: Values<G["settings"]>;
  /** Some annotation of the group was written and is not empty. */
  readonly given: boolean;
  /** Something could not be read, and the group's `onInvalid` says what follows. The text says what. */
  readonly off?: { readonly kind: "omit" | "deny"; readonly reason: string };
  readonly problems: readonly Problem[];
}

/** The controller's ConfigMap. Without one, every key has its default. */
export interface ControllerSettings {
  /** Absent: there is no such object. */
  readonly name?: ObjectName;
  readonly data: Readonly<Record<string, string>>;
}

/** Reads groups under one ConfigMap. */
export interface GroupReader {
  readonly read: <G extends Group>(
    group: G,
    annotations: Readonly<Record<string, string>>,
  ) => GroupReading<G>;
  /** What `read` gives for an Ingress without any annotation of the group; made once. */
  readonly defaults: <G extends Group>(group: G) => GroupReading<G>;
  /** What is wrong in the ConfigMap with the keys of this group. */
  readonly settingProblems: (group: Group) => readonly Problem[];
}

/** One text that was read, or could not be. */
type Outcome =
  | { readonly kind: "Absent" }
  | { readonly kind: "Value"; readonly value: unknown }
  | { readonly kind: "Off"; readonly off: "omit" | "deny"; readonly reason: string };

interface SettingsOutcome {
  readonly byReader: ReadonlyMap<string, Outcome>;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly off?: { readonly kind: "omit" | "deny"; readonly reason: string };
  readonly problems: readonly Problem[];
}

export function createGroupReader(settings: ControllerSettings): GroupReader {
  const settingsOf = new Map<Group, SettingsOutcome>();
  const defaults = new Map<Group, GroupReading<Group>>();

  const outcomeOf = (group: Group): SettingsOutcome => {
    let outcome = settingsOf.get(group);
    if (outcome === undefined) {
      outcome = readSettings(group, settings.data);
      settingsOf.set(group, outcome);
    }
    return outcome;
  };

  return {
    read: <G extends Group>(group: G, annotations: Readonly<Record<string, string>>) =>
      readGroup(group, annotations, outcomeOf(group)) as GroupReading<G>,
    defaults<G extends Group>(group: G) {
      let reading = defaults.get(group);
      if (reading === undefined) {
        reading = readGroup(group, {}, outcomeOf(group));
        defaults.set(group, reading);
      }
      return reading as GroupReading<G>;
    },
    settingProblems: (group) => outcomeOf(group).problems,
  };
}

/** Every key under which a reader's text may stand, the one that wins first. */
export function annotationKeys(name: string, reader: Reader<unknown, unknown>): readonly string[] {
  const names = [name, ...(reader.options.aliases ?? []).map(aliasName)];
  return names.flatMap((one) => [ANNOTATION_PREFIX + one, OLD_ANNOTATION_PREFIX + one]);
}

function readGroup(
  group: Group,
  annotations: Readonly<Record<string, string>>,
  defaults: SettingsOutcome,
): GroupReading<Group> {
  const problems: Problem[] = [];
  const values: Record<string, unknown> = {};
  let given = false;
  let off = defaults.off;
  for (const [name, reader] of Object.entries(group.annotations)) {
    const written = findText(name, reader, annotations, problems);
    let outcome: Outcome = { kind: "Absent" };
    if (written !== undefined) {
      given = true;
      outcome = readText(reader, written.key, written.text, group, problems);
    }
    if (outcome.kind === "Absent") outcome = defaults.byReader.get(name) ?? outcome;
    if (outcome.kind === "Off") off = worse(off, { kind: outcome.off, reason: outcome.reason });
    values[name] = outcome.kind === "Value" ? outcome.value : reader.options.default;
  }
  const reading = {
    annotations: values as Values<Readers>,
    settings: defaults.settings as Values<Readers>,
    given,
    problems,
  };
  return off === undefined ? reading : { ...reading, off };
}

function readSettings(group: Group, data: Readonly<Record<string, string>>): SettingsOutcome {
  const problems: Problem[] = [];
  const byReader = new Map<string, Outcome>();
  for (const [name, reader] of Object.entries(group.annotations)) {
    const key = reader.options.setting;
    const text = key === undefined ? undefined : data[key]?.trim();
    if (key === undefined || text === undefined || text === "") continue;
    byReader.set(name, readText(reader, key, text, group, problems));
  }
  const settings: Record<string, unknown> = {};
  let off: SettingsOutcome["off"];
  for (const [key, reader] of Object.entries(group.settings)) {
    const text = data[key]?.trim() ?? "";
    const outcome: Outcome = text === "" ? { kind: "Absent" } : readText(reader, key, text, group, problems);
    if (outcome.kind === "Off") off = worse(off, { kind: outcome.off, reason: outcome.reason });
    settings[key] = outcome.kind === "Value" ? outcome.value : reader.options.default;
  }
  return off === undefined ? { byReader, settings, problems } : { byReader, settings, off, problems };
}

function worse<T extends { readonly kind: "omit" | "deny" }>(a: T | undefined, b: T): T {
  return a?.kind === "deny" ? a : b;
}

/** The text that counts, under its canonical meaning. */
function findText(
  name: string,
  { options }: { readonly options: ReaderOptions<unknown, unknown> },
  annotations: Readonly<Record<string, string>>,
  problems: Problem[],
): { readonly key: string; readonly text: string } | undefined {
  const names = [{ name, translate: (text: string): string | undefined => text }, ...(options.aliases ?? [])];
  for (const entry of names) {
    const alias = typeof entry === "string" ? { name: entry, translate: (text: string) => text } : entry;
    for (const prefix of [ANNOTATION_PREFIX, OLD_ANNOTATION_PREFIX]) {
      const key = prefix + alias.name;
      const text = annotations[key]?.trim();
      if (text === undefined) continue;
      if (text === "") {
        problems.push({ severity: "warning", key, message: "is empty, and so counts as absent." });
        continue;
      }
      const translated = alias.translate(text);
      if (translated !== undefined) return { key, text: translated };
    }
  }
  return undefined;
}

// The one exception is the line break between the items of a list, which the list's own reader trims away.
const FORBIDDEN = /(?![\r\n\t])\p{Cc}/u;
const LINE_BREAK = /[\r\n]/;

function readText(
  reader: Reader<unknown, unknown>,
  key: string,
  text: string,
  group: Group,
  problems: Problem[],
): Outcome {
  const isList = reader.type.startsWith("comma-separated");
  const reading =
    text.length > reader.maxLength
      ? unreadableBecause(`at most ${reader.maxLength} characters`)
      : FORBIDDEN.test(text) || (!isList && LINE_BREAK.test(text))
        ? unreadableBecause("text without line breaks and control characters")
        : reader.read(text);
  if (reading.kind === "Value") {
    for (const remark of reading.remarks ?? []) problems.push({ severity: "warning", key, message: remark });
    return reading;
  }
  const what = `${quote(text)} was given, but ${reading.expected} was expected`;
  const { unreadable, ignoreUnreadable } = reader.options;
  const effect: OnInvalid | "value" =
    unreadable !== undefined ? "value" : ignoreUnreadable ? "ignore" : group.onInvalid;
  problems.push({ severity: "error", key, message: `${what}; ${consequence(effect, reader, group)}.` });
  switch (effect) {
    case "value":
      return { kind: "Value", value: unreadable };
    case "ignore":
      return { kind: "Absent" };
    case "omit":
    case "deny":
      return { kind: "Off", off: effect, reason: `${key}: ${what}` };
    default:
      return effect satisfies never;
  }
}

function unreadableBecause(expected: string): { readonly kind: "Unreadable"; readonly expected: string } {
  return { kind: "Unreadable", expected };
}

function consequence(
  effect: OnInvalid | "value",
  { options }: Reader<unknown, unknown>,
  { whenUnreadable }: Group,
): string {
  if (effect === "omit" || effect === "deny") {
    if (whenUnreadable !== undefined) return whenUnreadable;
  }
  switch (effect) {
    case "value":
      return `it counts as ${JSON.stringify(options.unreadable)}`;
    case "ignore":
      return "it is ignored";
    case "omit":
      return "the feature is off here";
    case "deny":
      return "every route that it guards answers 503";
    default:
      return effect satisfies never;
  }
}
