/** Compiling a large cluster, and one change of it, beside `nginx -t` over as many servers and upstreams. */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Bench } from "../bench.ts";
import { hostName } from "./large-cluster.ts";

const HOSTS = 10_000;

interface Round {
  readonly compileMs: number;
  readonly publishMs: number;
  readonly changeMs: number;
  readonly shardsWrittenByAChange: number;
  readonly rssMiB: number;
}

export const bench: Bench = {
  title:
    "10 000 Ingresses and 50 000 endpoints compiled, then one endpoint changed, beside `nginx -t` over the same hosts",
  goals: [
    { what: "compiled, in milliseconds", measure: "compileMs", bound: { atMost: 1500 } },
    {
      what: "one endpoint changed, to the new shard, in milliseconds",
      measure: "changeMs",
      bound: { atMost: 20 },
    },
    { what: "shards written by one change", measure: "shardsWrittenByAChange", bound: { atMost: 1 } },
    { what: "largest resident memory, in MiB", measure: "rssMiB", bound: { atMost: 400 } },
  ],
  async run({ rounds, note }) {
    const subject = join(import.meta.dirname, "subject.ts");
    const nginx = nginxVersion();
    const ours: Round[] = [];
    const theirs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      note(`round ${round + 1} of ${rounds}`);
      ours.push(JSON.parse(execFileSync(process.execPath, [subject], { encoding: "utf8" })) as Round);
      if (nginx !== undefined) theirs.push(timeNginx());
    }
    const of = (measure: keyof Round): number => median(ours.map((round) => round[measure]));
    const measures = {
      compileMs: of("compileMs"),
      publishMs: of("publishMs"),
      changeMs: of("changeMs"),
      shardsWrittenByAChange: of("shardsWrittenByAChange"),
      rssMiB: of("rssMiB"),
      ...(theirs.length === 0 ? {} : { nginxTestMs: median(theirs) }),
    };
    return {
      table: [
        ["", "milliseconds"],
        ["fairlead: compile", measures.compileMs.toFixed(0)],
        ["fairlead: compile and cut into shards", measures.publishMs.toFixed(0)],
        ["fairlead: one endpoint changed, to the new shard", measures.changeMs.toFixed(1)],
        ["nginx -t over as many servers", theirs.length === 0 ? "not installed" : median(theirs).toFixed(0)],
      ],
      measures,
      versions: { node: process.version, nginx: nginx ?? "not installed" },
    };
  },
};

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function nginxVersion(): string | undefined {
  const { error, stderr } = spawnSync("nginx", ["-v"], { encoding: "utf8" });
  return error === undefined ? stderr.trim() : undefined;
}

/** What ingress-nginx has nginx do whenever a host comes or goes; endpoints alone it changes in Lua. */
function timeNginx(): number {
  const folder = mkdtempSync(join(tmpdir(), "fairlead-bench-nginx-"));
  try {
    const servers = Array.from(
      { length: HOSTS },
      (_, index) =>
        `server { listen 127.0.0.1:8099; server_name ${hostName(index)}; location / { proxy_pass http://u${index}; } location /api/ { proxy_pass http://u${index}; } }\n` +
        `upstream u${index} { ${Array.from({ length: 5 }, (_, pod) => `server 10.${index >> 8}.${index & 255}.${pod + 1}:8080;`).join(" ")} }`,
    );
    const path = join(folder, "nginx.conf");
    writeFileSync(
      path,
      `pid ${folder}/pid; error_log ${folder}/error.log; events {} http { access_log off; server_names_hash_max_size 65536; server_names_hash_bucket_size 128;\n${servers.join("\n")}\n}`,
    );
    const start = performance.now();
    execFileSync("nginx", ["-t", "-c", path], { stdio: "ignore" });
    return performance.now() - start;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
