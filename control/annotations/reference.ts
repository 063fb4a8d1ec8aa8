/**
 * Writes `docs/annotations.md`: every annotation, every key of the ConfigMap, and what becomes of each.
 *
 * In: the registry. Out: Markdown. `npm run docs` writes the file; a test compares it.
 */

import { groups } from "../features/index.ts";
import { sections } from "./known.ts";
import { type Entry, registry, type SettingEntry, settingRegistry, type Verdict } from "./registry.ts";

const INTRODUCTION = `# Annotations

<!-- Written by \`npm run docs\` from the features themselves. Edit those. -->

What becomes of every annotation of ingress-nginx, of the names that older controllers knew, and of every key of the controller's ConfigMap.
\`fairlead lint -f PATH\` tells the same for your own manifests.

- Names stand under \`nginx.ingress.kubernetes.io/\`; the older \`ingress.kubernetes.io/\` is read too, and the newer one wins.
- An empty text counts as absent. A text that cannot be read is an error in the report, costs only its own Ingress, and never opens anything: a guard that cannot be read denies its routes (503).
- *host* annotations hold for the whole host, and the oldest Ingress that sets one decides. *backend* ones come from the oldest Ingress that names the backend.
- Booleans are \`true\` or \`false\` (also \`1 t T TRUE True 0 f F FALSE False\`); sizes are \`8m\` (b, k, m, g); seconds are plain numbers.`;

export function annotationReference(): string {
  const names = registry.filter((entry) => entry.section !== "Names of older controllers");
  return [
    INTRODUCTION,
    countLine("Of the", names, "names that the last controller knew"),
    ...sections.flatMap((section) => [
      `## ${section}`,
      table(
        registry.filter((entry) => entry.section === section),
        true,
      ),
    ]),
    "## Names of older controllers",
    table(
      registry.filter((entry) => entry.section === "Names of older controllers"),
      true,
    ),
    "## The controller's ConfigMap",
    "`ingress-nginx/ingress-nginx-controller`, or the one that `--configmap NAMESPACE/NAME` names.",
    table(settingRegistry, false),
    "## What the features do",
    groups.map(({ name, doc }) => `- **${name}**: ${doc}`).join("\n"),
    "",
  ].join("\n\n");
}

function countLine(before: string, entries: readonly { readonly verdict: Verdict }[], after: string): string {
  const count = (verdict: Verdict): number => entries.filter((entry) => entry.verdict === verdict).length;
  const honoured = count("honoured") + count("honoured with a difference");
  return `${before} ${entries.length} ${after}, ${honoured} are honoured (${count("honoured with a difference")} with a difference), ${count("ignored")} are ignored and ${count("refused")} refused.`;
}

function table(entries: readonly (Entry | SettingEntry)[], withScope: boolean): string {
  const heads = [
    "name",
    "type",
    "default",
    ...(withScope ? ["of the"] : []),
    "verdict",
    "what it does, or why it does nothing",
  ];
  const rows = entries.map((entry) => [
    `\`${entry.name}\``,
    entry.type,
    entry.default === undefined ? "" : `\`${entry.default}\``,
    ...(withScope && "scope" in entry ? [entry.scope] : []),
    entry.verdict,
    [entry.reason, entry.advice].filter(Boolean).join(" "),
  ]);
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(heads), line(heads.map(() => "---")), ...rows.map(line)].join("\n");
}
