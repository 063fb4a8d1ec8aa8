/**
 * Which Secrets and ConfigMaps the Ingresses that count name: those are watched, and no others.
 *
 * Read off the features' own annotations: a reader that refers to an object says so (`refersTo`), so a new feature
 * needs nothing here. Secrets of `spec.tls` are not among them: their private keys have no use at the edge, so they are
 * never fetched (`tls-advice.ts`).
 */

import type { ClusterModel, Ingress, ObjectName } from "../../cluster/model.ts";
import { changedKeys } from "../../cluster/sorted-map.ts";
import type { NamedReferences } from "../../cluster/watch/cluster-watch.ts";
import { annotationKeys } from "../annotations/group.ts";
import type { Reference } from "../annotations/readers.ts";
import { whyNotOurs } from "../compile/ingress-class.ts";
import { type CompileOptions, DEFAULT_CONFIG_MAP } from "../compile/options.ts";
import { groups } from "../features/index.ts";

/** The annotations that name an object, under every key that somebody may write. */
const referring = groups.flatMap((group) =>
  Object.entries(group.annotations).flatMap(([name, reader]) =>
    reader.refersTo === undefined
      ? []
      : [{ keys: annotationKeys(name, reader), reader, kind: reader.refersTo }],
  ),
);

/** The very same references for a model that names the same objects. */
export function createReferences({
  ingressClass,
  configMap = DEFAULT_CONFIG_MAP,
}: CompileOptions): (model: ClusterModel) => NamedReferences {
  const named = new WeakMap<Ingress, readonly Named[]>();
  const namesOf = (ingress: Ingress): readonly Named[] => {
    let names = named.get(ingress);
    if (names === undefined) {
      names = namesIn(ingress);
      named.set(ingress, names);
    }
    return names;
  };
  let before: Counted | undefined;

  return (model) => {
    const { ingresses, ingressClasses } = model;
    const mayCross =
      model.configMaps.get(configMap)?.data["allow-cross-namespace-resources"]?.trim() === "true";
    const isNear = before?.ingressClasses === ingressClasses && before.mayCross === mayCross;
    if (before !== undefined && isNear && before.ingresses === ingresses) return before.result;
    const kept = isNear ? before : undefined;
    const counts = kept?.counts ?? { Secret: new Map(), ConfigMap: new Map([[configMap, 1]]) };
    let isSame = kept !== undefined;
    const count = (ingress: Ingress | undefined, by: 1 | -1): void => {
      if (ingress === undefined || whyNotOurs(ingress, ingressClasses, ingressClass) !== undefined) return;
      for (const { kind, reference } of namesOf(ingress)) {
        const namespace = reference.namespace ?? ingress.meta.namespace;
        if (namespace !== ingress.meta.namespace && !mayCross) continue;
        const name: ObjectName = `${namespace}/${reference.name}`;
        const sum = (counts[kind].get(name) ?? 0) + by;
        isSame &&= sum > 0 && counts[kind].has(name);
        if (sum === 0) counts[kind].delete(name);
        else counts[kind].set(name, sum);
      }
    };
    if (kept === undefined) for (const ingress of ingresses.values()) count(ingress, 1);
    else
      for (const name of changedKeys(kept.ingresses, ingresses)) {
        // What comes counts first: what is named before and after is named all the time.
        count(ingresses.get(name), 1);
        count(kept.ingresses.get(name), -1);
      }
    const result =
      isSame && kept !== undefined
        ? kept.result
        : { secrets: new Set(counts.Secret.keys()), configMaps: new Set(counts.ConfigMap.keys()) };
    before = { ingresses, ingressClasses, mayCross, counts, result };
    return result;
  };
}

/** A model's Ingresses, and how many of them name an object; the counts go on to the next model. */
interface Counted extends Pick<ClusterModel, "ingresses" | "ingressClasses"> {
  readonly mayCross: boolean;
  readonly counts: Readonly<Record<Named["kind"], Map<ObjectName, number>>>;
  readonly result: NamedReferences;
}

interface Named {
  readonly kind: "Secret" | "ConfigMap";
  readonly reference: Reference;
}

function namesIn({ meta }: Ingress): readonly Named[] {
  return referring.flatMap(({ keys, reader, kind }) => {
    const text = keys
      .map((key) => meta.annotations[key])
      .find((value) => value !== undefined && value !== "");
    if (text === undefined) return [];
    const reading = reader.read(text.trim());
    return reading.kind === "Value" ? [{ kind, reference: reading.value as Reference }] : [];
  });
}
