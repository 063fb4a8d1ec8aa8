/**
 * Keeps the edge's configuration in step with the clusters.
 *
 * In: states of clusters, as often as they come. Out: one configuration with everything there is to say about
 * it. Each cluster has a compiler of its own, which does again only what a change touches.
 */

import type { EdgeConfig } from "../edge-config/config.ts";
import type { ClusterState } from "./cluster-source.ts";
import { type Compiler, createCompiler } from "./compile/compile.ts";
import type { CompileOptions } from "./compile/options.ts";
import { type ClusterConfig, type ClusterDiagnostic, createMerger } from "./merge.ts";
import type { OwnershipRules } from "./ownership.ts";

export interface CompiledEdge {
  readonly config: EdgeConfig;
  /** In order of the clusters' names. */
  readonly clusters: readonly string[];
  readonly diagnostics: readonly ClusterDiagnostic[];
}

export interface EdgeCompiler {
  /** Puts a cluster's state in the place of the one before. */
  readonly update: (cluster: string, state: ClusterState) => CompiledEdge;
  readonly remove: (cluster: string) => CompiledEdge;
  readonly clusters: () => ReadonlyMap<string, ClusterState>;
}

interface Member {
  readonly compiler: Compiler;
  readonly state: ClusterState;
  readonly compiled: ClusterConfig;
  readonly diagnostics: readonly ClusterDiagnostic[];
}

export function createEdgeCompiler(options: CompileOptions, rules: OwnershipRules): EdgeCompiler {
  const members = new Map<string, Member>();
  const merger = createMerger(rules);

  const merged = (): CompiledEdge => {
    const sorted = [...members].sort(([left], [right]) => (left < right ? -1 : 1));
    const { config, diagnostics } = merger.merge(sorted.map(([, { compiled }]) => compiled));
    return {
      config,
      clusters: sorted.map(([name]) => name),
      diagnostics: [...sorted.flatMap(([, member]) => member.diagnostics), ...diagnostics],
    };
  };

  return {
    update: (cluster, state) => {
      const compiler = members.get(cluster)?.compiler ?? createCompiler(options);
      const restricted = rules.restrict(cluster, state.model);
      const { config, diagnostics } = compiler.compile(restricted.model);
      members.set(cluster, {
        compiler,
        state,
        compiled: { cluster, model: state.model, config },
        diagnostics: [...state.diagnostics, ...restricted.diagnostics, ...diagnostics].map((one) => ({
          ...one,
          cluster,
        })),
      });
      return merged();
    },
    remove: (cluster) => {
      members.delete(cluster);
      return merged();
    },
    clusters: () => new Map([...members].map(([name, { state }]) => [name, state])),
  };
}
