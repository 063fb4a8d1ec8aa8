/**
 * Keeps the edge's configuration in step with the clusters.
 *
 * In: states of clusters, as often as they come. Out: one configuration with everything there is to say about
 * it. Each cluster has a compiler of its own, which does again only what a change touches.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { EdgeConfig } from "../edge-config/config.ts";
import type { ConfigDelta } from "../edge-config/shards.ts";
import type { ClusterState } from "./cluster-source.ts";
import { type Compiler, createCompiler } from "./compile/compile.ts";
import type { CompileOptions } from "./compile/options.ts";
import { type ClusterConfig, type ClusterDiagnostic, createMerger } from "./merge.ts";
import type { OwnershipRules } from "./ownership.ts";

export interface CompiledEdge {
  readonly config: EdgeConfig;
  /** Absent where it is not known to be little. */
  readonly delta?: ConfigDelta;
  /** In order of the clusters' names. */
  readonly clusters: readonly string[];
  readonly diagnostics: readonly ClusterDiagnostic[];
}

export interface EdgeCompiler {
  /** Puts a cluster's state in the place of the one before. */
  readonly update: (cluster: string, state: ClusterState) => CompiledEdge;
  /** Goes on with what a cluster had at the edge, until its state comes. */
  readonly recover: (cluster: string, config: EdgeConfig) => CompiledEdge;
  readonly remove: (cluster: string) => CompiledEdge;
  /** `undefined`: recovered, and its state has not come yet. */
  readonly clusters: () => ReadonlyMap<string, ClusterState | undefined>;
}

interface Member {
  /** Absent: recovered. */
  readonly compiler?: Compiler;
  readonly tag: Tagger;
  readonly state?: ClusterState;
  readonly compiled: ClusterConfig;
  readonly delta: ConfigDelta | undefined;
  readonly diagnostics: readonly ClusterDiagnostic[];
}

export function createEdgeCompiler(options: CompileOptions, rules: OwnershipRules): EdgeCompiler {
  const members = new Map<string, Member>();
  const merger = createMerger(rules);

  const merged = (): CompiledEdge => {
    const sorted = [...members].sort(([left], [right]) => (left < right ? -1 : 1));
    const { config, diagnostics } = merger.merge(sorted.map(([, { compiled }]) => compiled));
    const [only] = sorted;
    const clusters = sorted.map(([name]) => name);
    // A configuration that is handed on as it is.
    if (only !== undefined && sorted.length === 1 && config === only[1].compiled.config) {
      const { delta, diagnostics: own } = only[1];
      return { config, clusters, diagnostics: own, ...(delta === undefined ? {} : { delta }) };
    }
    return {
      config,
      clusters,
      diagnostics: [...sorted.flatMap(([, member]) => member.diagnostics), ...diagnostics],
    };
  };

  return {
    update: (cluster, state) => {
      const before = members.get(cluster);
      const compiler = before?.compiler ?? createCompiler(options);
      const tag = before?.tag ?? createTagger(cluster);
      const restricted = rules.restrict(cluster, state.model);
      const { config, diagnostics, delta } = compiler.compile(restricted.model);
      members.set(cluster, {
        compiler,
        tag,
        state,
        compiled: { cluster, model: state.model, config },
        delta,
        diagnostics: tag([state.diagnostics, restricted.diagnostics, diagnostics]),
      });
      return merged();
    },
    recover: (cluster, config) => {
      const compiled = { cluster, config };
      members.set(cluster, { tag: createTagger(cluster), compiled, delta: undefined, diagnostics: [] });
      return merged();
    },
    remove: (cluster) => {
      members.delete(cluster);
      return merged();
    },
    clusters: () => new Map([...members].map(([name, { state }]) => [name, state])),
  };
}

/** Diagnostics with the name of their cluster; the very same list for the same ones. */
type Tagger = (lists: readonly (readonly Diagnostic[])[]) => readonly ClusterDiagnostic[];

function createTagger(cluster: string): Tagger {
  let before: {
    readonly lists: readonly (readonly Diagnostic[])[];
    readonly tagged: readonly ClusterDiagnostic[];
  };
  before = { lists: [], tagged: [] };
  return (all) => {
    const lists = all.filter((list) => list.length > 0);
    const isSame =
      lists.length === before.lists.length && lists.every((list, at) => list === before.lists[at]);
    if (!isSame) before = { lists, tagged: lists.flat().map((one) => ({ ...one, cluster })) };
    return before.tagged;
  };
}
