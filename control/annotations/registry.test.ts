import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { featureList, groups } from "../features/index.ts";
import { knownAnnotations } from "./known.ts";
import { edgeSettings, otherSettings } from "./other-settings.ts";
import { historical, others } from "./others.ts";
import { aliasName, type Reader } from "./reader.ts";
import { annotationReference } from "./reference.ts";
import { judgeAnnotation, registry, settingRegistry } from "./registry.ts";

const readers = groups.flatMap((group) =>
  Object.entries<Reader<unknown, unknown>>(group.annotations).map(([name, reader]) => ({
    group,
    name,
    reader,
  })),
);
const declaredNames = readers.flatMap(({ name, reader }) => [
  name,
  ...(reader.options.aliases ?? []).map(aliasName),
]);

describe("the registry", () => {
  test("holds the 138 names of the last controller, each once", () => {
    expect(knownAnnotations).toHaveLength(138);
    expect(new Set(registry.map(({ name }) => name)).size).toBe(registry.length);
  });

  test("a name has one owner", () => {
    expect(declaredNames.filter((name, index) => declaredNames.indexOf(name) !== index)).toEqual([]);
    // A feature that honours a name takes it out of the lists of names that nobody honours.
    expect(declaredNames.filter((name) => name in others || name in historical)).toEqual([]);
    const declaredSettings = settingRegistry
      .filter(({ group }) => group !== undefined)
      .map(({ name }) => name);
    expect(declaredSettings.filter((name) => name in otherSettings)).toEqual([]);
  });

  test("the lists of names that nobody honours hold no name that does not exist", () => {
    const known = new Set(knownAnnotations.map(({ name }) => name));
    expect(Object.keys(others).filter((name) => !known.has(name))).toEqual([]);
    expect(Object.keys(historical).filter((name) => known.has(name))).toEqual([]);
    expect(edgeSettings.filter((name) => name in otherSettings)).toEqual([]);
  });

  test("every reader and feature has its sentence", () => {
    for (const { doc } of [...groups, ...readers.map(({ reader }) => reader)])
      expect(doc).toMatch(/^[A-Z`].*\.$/s);
  });

  test("every name that is honoured stands in a golden case of its feature", () => {
    const texts = new Map<string, string>();
    const golden = new URL("../../tests/golden/", import.meta.url);
    for (const { name } of groups) {
      const files = readdirSync(golden, { withFileTypes: true }).some((entry) => entry.name === name)
        ? readdirSync(new URL(`${name}/`, golden)).filter((file) => file.endsWith(".in.yaml"))
        : [];
      texts.set(
        name,
        files.map((file) => readFileSync(new URL(`${name}/${file}`, golden), "utf8")).join("\n"),
      );
    }
    const missing = readers.flatMap(({ group, name, reader }) =>
      [name, ...(reader.options.aliases ?? []).map(aliasName)]
        .filter((one) => !texts.get(group.name)?.includes(`ingress.kubernetes.io/${one}:`))
        .map((one) => `${group.name}: ${one}`),
    );
    expect(missing).toEqual([]);
  });

  test("every name that is honoured stands in a request-level case", () => {
    const folder = new URL("../../tests/e2e/", import.meta.url);
    const cases = readdirSync(folder)
      .filter((file) => file.endsWith(".test.ts"))
      .map((file) => readFileSync(new URL(file, folder), "utf8"))
      .join("\n");
    // As a key of annotations in a manifest: "name" or "ingress.kubernetes.io/name", or bare where it is a word.
    const isWritten = (name: string): boolean =>
      cases.includes(`"${name}":`) ||
      cases.includes(`/${name}":`) ||
      new RegExp(`[{,]\\s*${name}: `).test(cases);
    const settings = settingRegistry.filter(({ verdict }) => verdict.startsWith("honoured"));
    const missing = [...declaredNames, ...settings.map(({ name }) => name)].filter(
      (name) => !isWritten(name),
    );
    expect(missing).toEqual([]);
  });

  test("features stand in the order of the alphabet", () => {
    const names = featureList.map(({ name }) => name as string);
    expect(names).toEqual([...names].sort());
  });

  test("docs/annotations.md is what the code says (`npm run docs` writes it)", () => {
    expect(readFileSync(new URL("../../docs/annotations.md", import.meta.url), "utf8")).toBe(
      annotationReference(),
    );
  });
});

describe("annotations that no feature reads", () => {
  const severity = (key: string): string | undefined => judgeAnnotation("shop/web", key)[0]?.severity;
  test.each([
    ["nginx.ingress.kubernetes.io/server-snippet", "error"],
    ["ingress.kubernetes.io/configuration-snippet", "error"],
    ["nginx.ingress.kubernetes.io/proxy-buffer-size", "info"],
    ["nginx.ingress.kubernetes.io/enable-websockets", "info"],
    ["nginx.ingress.kubernetes.io/enable-corse", "warning"],
    ["nginx.ingress.kubernetes.io/__proto__", "warning"],
    ["cert-manager.io/issuer", undefined],
  ])("%s → %s", (key, want) => {
    expect(severity(key)).toBe(want);
  });
});
