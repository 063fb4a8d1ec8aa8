/**
 * Follows only those Secrets or ConfigMaps that something names.
 *
 * In: names, whenever they change. Out: reflectors, as few as will do. A name has a watch of its own, which asks the
 * server for that object and no other; a namespace with many names has one watch, of which only the named ones are kept.
 */

import type { ObjectName } from "../model.ts";
import type { Reflector, ReflectorTarget } from "./reflector.ts";

/** From so many names on, a namespace is watched as a whole: each watch is a connection. */
export const MOST_SINGLE_WATCHES = 12;

export interface NamedObjects {
  /** The names that are wanted from now on. */
  readonly want: (names: ReadonlySet<ObjectName>) => void;
  readonly reflectors: () => readonly Reflector[];
}

export function createNamedObjects(
  kind: "Secret" | "ConfigMap",
  start: (target: ReflectorTarget) => Reflector,
): NamedObjects {
  /** By what they watch: a name, or a namespace and all of its wanted names. */
  let running = new Map<string, Reflector>();
  let wanted: ReadonlySet<ObjectName> | undefined;

  return {
    want: (names) => {
      if (names === wanted) return;
      wanted = names;
      const targets = targetsOf(kind, names);
      const next = new Map<string, Reflector>();
      // Those that go take their objects with them; whatever is still wanted comes back with a new one's first list,
      // and nothing is told of the cluster in between (`cluster-watch.ts`).
      for (const [key, reflector] of running) if (!targets.has(key)) reflector.withdraw();
      for (const [key, target] of targets) next.set(key, running.get(key) ?? start(target));
      running = next;
    },
    reflectors: () => [...running.values()],
  };
}

function targetsOf(
  kind: "Secret" | "ConfigMap",
  names: ReadonlySet<ObjectName>,
): ReadonlyMap<string, ReflectorTarget> {
  const byNamespace = new Map<string, ObjectName[]>();
  for (const name of [...names].sort()) {
    const namespace = name.slice(0, name.indexOf("/"));
    const others = byNamespace.get(namespace);
    if (others === undefined) byNamespace.set(namespace, [name]);
    else others.push(name);
  }
  const targets = new Map<string, ReflectorTarget>();
  for (const [namespace, wanted] of byNamespace) {
    if (wanted.length <= MOST_SINGLE_WATCHES) {
      for (const name of wanted) {
        const fieldSelector = `metadata.name=${name.slice(namespace.length + 1)}`;
        targets.set(name, { kind, namespace, fieldSelector });
      }
      continue;
    }
    const set: ReadonlySet<string> = new Set(wanted);
    targets.set(`${namespace}: ${wanted.join(" ")}`, { kind, namespace, wants: (name) => set.has(name) });
  }
  return targets;
}
