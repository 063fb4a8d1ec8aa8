/**
 * Which Secrets and ConfigMaps the Ingresses that count name: those are watched, and no others.
 *
 * Read off the features' own annotations: a reader that refers to an object says so (`refersTo`), so a new feature
 * needs nothing here. Secrets of `spec.tls` are not among them: their private keys have no use at the edge, so they are
 * never fetched (`tls-advice.ts`).
 */

import type { ClusterModel, Ingress, ObjectName } from "../../cluster/model.ts";
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
  let before: { readonly inputs: readonly unknown[]; readonly result: NamedReferences } | undefined;

  return (model) => {
    const settings = model.configMaps.get(configMap);
    const inputs = [model.ingresses, model.ingressClasses, settings];
    if (before?.inputs.every((input, at) => input === inputs[at])) return before.result;
    const mayCross = settings?.data["allow-cross-namespace-resources"]?.trim() === "true";
    const secrets = new Set<ObjectName>();
    const configMaps = new Set<ObjectName>([configMap]);
    for (const ingress of model.ingresses.values()) {
      if (whyNotOurs(ingress, model.ingressClasses, ingressClass) !== undefined) continue;
      for (const { kind, reference } of namesOf(ingress)) {
        const namespace = reference.namespace ?? ingress.meta.namespace;
        if (namespace !== ingress.meta.namespace && !mayCross) continue;
        (kind === "Secret" ? secrets : configMaps).add(`${namespace}/${reference.name}`);
      }
    }
    const result = { secrets, configMaps };
    before = { inputs, result };
    return result;
  };
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
