/**
 * The compatibility report for a move from ingress-nginx.
 *
 * In: a cluster. Out: for each Ingress and annotation what becomes of it, why, and what to do; what surprises people;
 * what is wrong besides. Made from the compiler's own diagnostics and from the registry, so it cannot say anything
 * else than what the edge does.
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel, Ingress } from "../../cluster/model.ts";
import { nearestWord } from "../../cluster/objects/nearest-word.ts";
import type { ObjectName } from "../../edge-config/config.ts";
import { ANNOTATION_PREFIX } from "../annotations/group.ts";
import { annotationNames, type Entry, lookUp, lookUpSetting, type Verdict } from "../annotations/registry.ts";
import { compile } from "../compile/compile.ts";
import { CLASS_ANNOTATION } from "../compile/ingress-class.ts";
import { type CompileOptions, DEFAULT_CONFIG_MAP } from "../compile/options.ts";
import { compareText, nameOf } from "../compile/order.ts";
import { planIngress } from "../compile/plan.ts";
import { asksForRegex } from "../compile/policies.ts";
import { createReadingSource } from "../compile/readings.ts";
import { useRegex } from "../features/structure.ts";
import { type SnippetLine, translateSnippet } from "./snippets.ts";
import { findSurprises, type Surprise } from "./surprises.ts";

export interface AnnotationReport {
  /** The whole key, as written; a key of the ConfigMap. */
  readonly name: string;
  readonly value: string;
  readonly verdict: Verdict;
  readonly reason: string;
  readonly advice?: string;
  /** For snippets: each directive, and what says the same. */
  readonly snippet?: readonly SnippetLine[];
}

export type Outcome = "moves as it is" | "moves with differences" | "needs work";

export interface IngressReport {
  readonly ingress: ObjectName;
  readonly outcome: Outcome;
  readonly annotations: readonly AnnotationReport[];
  readonly surprises: readonly Surprise[];
  /** Everything else that the compiler says about this Ingress. */
  readonly problems: readonly Diagnostic[];
}

export interface LintReport {
  /** One line, fit for a ticket. */
  readonly summary: string;
  readonly counts: {
    readonly ingresses: Readonly<Record<Outcome, number>>;
    readonly annotations: Readonly<Record<Verdict, number>>;
    readonly surprises: number;
  };
  readonly ingresses: readonly IngressReport[];
  /** The controller's ConfigMap, if it is there. */
  readonly configMap?: { readonly name: ObjectName; readonly settings: readonly AnnotationReport[] };
  /** About other objects. */
  readonly problems: readonly Diagnostic[];
}

export function lint(model: ClusterModel, options: CompileOptions = {}): LintReport {
  const { config, diagnostics } = compile(model, options);
  const byObject = Map.groupBy(diagnostics, ({ kind, object }) => `${kind} ${object}`);
  const regexAskers = findRegexAskers(model);
  const ingresses = [...model.ingresses.values()]
    .sort((a, b) => compareText(nameOf(a), nameOf(b)))
    .map((ingress) =>
      reportIngress(ingress, byObject.get(`Ingress ${nameOf(ingress)}`) ?? [], () =>
        findSurprises(ingress, config, options, (name) => regexAskers.has(name)),
      ),
    );
  const configMap = reportConfigMap(model, options, byObject);
  const counts = countAll(ingresses);
  return {
    summary: summarise(counts),
    counts,
    ingresses,
    ...(configMap === undefined ? {} : { configMap }),
    problems: diagnostics.filter(
      ({ kind, object, field }) =>
        kind !== "Ingress" && !(object === configMap?.name && field?.startsWith("data.") === true),
    ),
  };
}

function findRegexAskers(model: ClusterModel): ReadonlySet<ObjectName> {
  const readings = createReadingSource({ data: {} });
  const askers = new Set<ObjectName>();
  for (const ingress of model.ingresses.values()) {
    const plan = planIngress(ingress);
    const asks =
      readings.of(plan).of(useRegex).annotations["use-regex"] ||
      ingress.rules.some(({ paths }) => paths?.some(({ path }) => asksForRegex(plan, path, readings)));
    if (asks) askers.add(plan.name);
  }
  return askers;
}

function reportIngress(
  ingress: Ingress,
  diagnostics: readonly Diagnostic[],
  surprisesOf: () => readonly Surprise[],
): IngressReport {
  const { annotations: written } = ingress.meta;
  const annotations = Object.keys(written)
    .sort(compareText)
    .flatMap((key) =>
      reportAnnotation(
        key,
        written,
        diagnostics.filter(({ field }) => field === key),
      ),
    );
  const reported = new Set(annotations.map(({ name }) => name));
  const problems = diagnostics.filter(({ field }) => field === undefined || !reported.has(field));
  const surprises = surprisesOf();
  return {
    ingress: nameOf(ingress),
    outcome: outcomeOf(annotations, surprises, problems),
    annotations,
    surprises,
    problems,
  };
}

function outcomeOf(
  annotations: readonly AnnotationReport[],
  surprises: readonly Surprise[],
  problems: readonly Diagnostic[],
): Outcome {
  const needsWork =
    annotations.some(({ verdict, name }) => verdict === "refused" || lookUp(name)?.entry?.pending === true) ||
    problems.some(({ severity }) => severity === "error");
  if (needsWork) return "needs work";
  const differs = annotations.some(
    ({ verdict, name }) => verdict === "honoured with a difference" || lookUp(name)?.entry === undefined,
  );
  return differs || surprises.length > 0 ? "moves with differences" : "moves as it is";
}

function reportAnnotation(
  key: string,
  written: Readonly<Record<string, string>>,
  diagnostics: readonly Diagnostic[],
): readonly AnnotationReport[] {
  const value = written[key] ?? "";
  const report = { name: key, value };
  if (key === CLASS_ANNOTATION) {
    return [
      { ...report, verdict: "honoured", reason: "Names the class, where `spec.ingressClassName` does not." },
    ];
  }
  const found = lookUp(key);
  if (found === undefined) return [];
  const { entry, old, name } = found;
  if (entry === undefined) {
    const near = nearestWord(name, annotationNames);
    return [
      {
        ...report,
        verdict: "ignored",
        reason: "It is not the name of any annotation of ingress-nginx.",
        ...(near === undefined ? {} : { advice: `Perhaps ${ANNOTATION_PREFIX}${near} is meant.` }),
      },
    ];
  }
  if (old && (written[ANNOTATION_PREFIX + name] ?? "").trim() !== "") {
    return [{ ...report, verdict: "ignored", reason: `${ANNOTATION_PREFIX}${name} is there too, and wins.` }];
  }
  return [{ ...report, ...judge(entry, value, diagnostics), ...translated(name, value) }];
}

function judge(
  entry: Pick<Entry, "verdict" | "reason" | "advice" | "group">,
  value: string,
  diagnostics: readonly Diagnostic[],
): Pick<AnnotationReport, "verdict" | "reason" | "advice"> {
  const { verdict, reason, advice, group } = entry;
  if (group === undefined) return { verdict, reason, ...(advice === undefined ? {} : { advice }) };
  if (value.trim() === "") return { verdict: "ignored", reason: "It is empty, and so counts as absent." };
  const said = diagnostics.map(({ message }) => sentence(message)).join(" ");
  if (diagnostics.some(({ severity }) => severity === "error")) {
    return { verdict: "refused", reason: said, advice: "Correct the value." };
  }
  return { verdict, reason: said === "" ? reason : `${reason} Here: ${said}` };
}

function sentence(message: string): string {
  return message.charAt(0).toUpperCase() + message.slice(1);
}

function translated(name: string, value: string): Pick<AnnotationReport, "snippet"> {
  return name.endsWith("-snippet") ? { snippet: translateSnippet(value) } : {};
}

function reportConfigMap(
  model: ClusterModel,
  options: CompileOptions,
  byObject: ReadonlyMap<string, readonly Diagnostic[]>,
): LintReport["configMap"] {
  const name = options.configMap ?? DEFAULT_CONFIG_MAP;
  const object = model.configMaps.get(name);
  if (object === undefined) return undefined;
  const diagnostics = byObject.get(`ConfigMap ${name}`) ?? [];
  const settings = Object.entries(object.data)
    .sort(([a], [b]) => compareText(a, b))
    .map(([key, value]): AnnotationReport => {
      const entry = lookUpSetting(key);
      if (entry === undefined) {
        return {
          name: key,
          value,
          verdict: "ignored",
          reason: "It is not a key of ingress-nginx's ConfigMap.",
        };
      }
      const own = diagnostics.filter(({ field }) => field === `data.${key}`);
      return { name: key, value, ...judge(entry, value, own), ...translated(key, value) };
    });
  return { name, settings };
}

function countAll(ingresses: readonly IngressReport[]): LintReport["counts"] {
  const outcomes = { "moves as it is": 0, "moves with differences": 0, "needs work": 0 };
  const verdicts = { honoured: 0, "honoured with a difference": 0, ignored: 0, refused: 0 };
  let surprises = 0;
  for (const report of ingresses) {
    outcomes[report.outcome]++;
    surprises += report.surprises.length;
    for (const { verdict } of report.annotations) verdicts[verdict]++;
  }
  return { ingresses: outcomes, annotations: verdicts, surprises };
}

function summarise({ ingresses, annotations, surprises }: LintReport["counts"]): string {
  const total = Object.values(ingresses).reduce((sum, count) => sum + count, 0);
  const all = Object.values(annotations).reduce((sum, count) => sum + count, 0);
  return (
    `${plural(total, "Ingress", "Ingresses")}: ${ingresses["moves as it is"]} as they are, ${ingresses["moves with differences"]} with differences, ${ingresses["needs work"]} to work on; ` +
    `${plural(all, "annotation", "annotations")}: ${annotations.honoured} honoured, ${annotations["honoured with a difference"]} honoured with a difference, ${annotations.ignored} ignored, ${annotations.refused} refused; ` +
    `${plural(surprises, "surprise", "surprises")}.`
  );
}

function plural(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
