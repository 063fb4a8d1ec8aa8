/** From manifest files to an edge configuration, again and again: each run costs what has changed. */

import { buildClusterModel } from "../../cluster/build.ts";
import type { Diagnostic } from "../../cluster/diagnostic.ts";
import { ManifestReader } from "../../cluster/files.ts";
import type { ClusterModel } from "../../cluster/model.ts";
import { type Compiler, createCompiler } from "../../control/compile/compile.ts";
import type { CompileOptions } from "../../control/compile/options.ts";
import type { EdgeConfig } from "../../edge-config/config.ts";

export interface CompiledManifests {
  /** Milliseconds since 1970. */
  readonly readAtMs: number;
  readonly model: ClusterModel;
  readonly config: EdgeConfig;
  readonly diagnostics: readonly Diagnostic[];
}

export class ManifestPipeline {
  readonly #reader: ManifestReader;
  readonly #compiler: Compiler;

  constructor(paths: readonly string[], options: CompileOptions) {
    this.#reader = new ManifestReader(paths);
    this.#compiler = createCompiler(options);
  }

  /** Calls must not overlap. */
  async compile(): Promise<CompiledManifests> {
    const manifests = await this.#reader.read();
    const built = buildClusterModel(manifests.objects);
    const compiled = this.#compiler.compile(built.model);
    return {
      readAtMs: Date.now(),
      model: built.model,
      config: compiled.config,
      diagnostics: [...manifests.diagnostics, ...built.diagnostics, ...compiled.diagnostics],
    };
  }
}
