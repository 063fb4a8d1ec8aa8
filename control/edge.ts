/**
 * Keeps the edge's configuration in step with the clusters.
 *
 * In: states of clusters, as often as they come. Out: one configuration with everything there is to say about
 * it. Each cluster has a compiler of its own, which does again only what a change touches.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { Backend, BackendName, EdgeConfig, HostConfig } from "../edge-config/config.ts";
import type { ConfigDelta } from "../edge-config/shards.ts";
import type { ClusterState } from "./cluster-source.ts";
import { type Compiler, createCompiler } from "./compile/compile.ts";
import type { CompileOptions } from "./compile/options.ts";
import { type ClusterConfig, type ClusterDiagnostic, createMerger } from "./merge.ts";
import type { OwnershipRules } from "./ownership.ts";

export interface CompiledEdge {
  readonly config: EdgeConfig;
  /** Those of `config`, which makes its records when they are asked for. */
  readonly hosts: ReadonlyMap<string, HostConfig>;
  readonly backends: ReadonlyMap<BackendName, Backend>;
  /** Absent where it is not known to be little. */
  readonly delta?: ConfigDelta;
  /** In order of the clusters' names. */
  readonly clusters: readonly string[];
  /** The very same list as before when nothing else is to be said. */
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
  readonly diagnostics: readonly ClusterDiagnostic[];
}

export function createEdgeCompiler(options: CompileOptions, rules: OwnershipRules): EdgeCompiler {
  const members = new Map<string, Member>();
  const merger = createMerger(rules);

  const join = createJoiner<ClusterDiagnostic>();

  const merged = (): CompiledEdge => {
    const sorted = [...members].sort(([left], [right]) => (left < right ? -1 : 1));
    const { diagnostics, ...result } = merger.merge(sorted.map(([, { compiled }]) => compiled));
    return {
      ...result,
      clusters: sorted.map(([name]) => name),
      diagnostics: join([...sorted.map(([, member]) => member.diagnostics), diagnostics]),
    };
  };

  return {
    update: (cluster, state) => {
      const before = members.get(cluster);
      const compiler = before?.compiler ?? createCompiler(options);
      const tag = before?.tag ?? createTagger(cluster);
      const restricted = rules.restrict(cluster, state.model);
      const { diagnostics, ...compiled } = compiler.compile(restricted.model);
      members.set(cluster, {
        compiler,
        tag,
        state,
        compiled: { cluster, model: state.model, ...compiled },
        diagnostics: tag([state.diagnostics, restricted.diagnostics, diagnostics]),
      });
      return merged();
    },
    recover: (cluster, config) => {
      const compiled = { cluster, config };
      members.set(cluster, { tag: createTagger(cluster), compiled, diagnostics: [] });
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
  const join = createJoiner<Diagnostic>();
  let before: { readonly all: readonly Diagnostic[]; readonly tagged: readonly ClusterDiagnostic[] };
  before = { all: [], tagged: [] };
  return (lists) => {
    const all = join(lists);
    if (all !== before.all) before = { all, tagged: all.map((one) => ({ ...one, cluster })) };
    return before.tagged;
  };
}

/** Lists as one; the very same one for the same ones. */
function createJoiner<T>(): (lists: readonly (readonly T[])[]) => readonly T[] {
  let before: { readonly lists: readonly (readonly T[])[]; readonly joined: readonly T[] };
  before = { lists: [], joined: [] };
  return (all) => {
    const lists = all.filter((list) => list.length > 0);
    const isSame =
      lists.length === before.lists.length && lists.every((list, at) => list === before.lists[at]);
    if (!isSame) {
      const [only] = lists;
      before = { lists, joined: lists.length === 1 && only !== undefined ? only : lists.flat() };
    }
    return before.joined;
  };
}
