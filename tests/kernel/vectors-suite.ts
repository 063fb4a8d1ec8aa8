/**
 * All vectors through one way of programming a node: what the kernel does, and whether `fairlead nat trace` had said so.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AgentRunner, type Programmer } from "./agent.ts";
import { canBridge, Lab, type PodNetwork } from "./lab.ts";
import { writeManifest } from "./manifest.ts";
import { replay, serveUntouched } from "./replay.ts";
import { describeKernel } from "./requirements.ts";
import { SERVICES } from "./services.ts";
import { type Finding, MASQUERADED } from "./table.ts";
import { predict } from "./trace.ts";
import { SCENES } from "./vectors.ts";

export function describeVectors(programmer: Programmer, wanted: PodNetwork): void {
  // The lab does the same where the kernel has no bridge of pods.
  const podNetwork = canBridge() ? wanted : "routed";
  const scenes = SCENES.filter((scene) => scene.podNetwork === undefined || scene.podNetwork === podNetwork);
  const { backend, variant = "" } = programmer;
  describeKernel(`vectors, ${[backend, variant].join(" ").trim()}, pods ${podNetwork}`, () => {
    let lab: Lab;
    let agent: AgentRunner;
    let manifest: string;

    beforeAll(async () => {
      lab = await Lab.build({ label: `v-${backend.slice(0, 3)}${variant}`, podNetwork });
      agent = new AgentRunner(lab, programmer);
      manifest = agent.file("cluster.json");
      await writeManifest(manifest, SERVICES);
      await serveUntouched(
        lab,
        scenes.flatMap((scene) => scene.vectors),
      );
    });
    afterAll(async () => {
      await lab?.remove();
      agent?.remove();
    });

    describe.each(scenes)("$name", ({ flags, vectors }) => {
      let found: readonly (readonly Finding[])[];
      let predicted: readonly (readonly Finding[])[];

      beforeAll(async () => {
        await agent.program(manifest, ...flags);
        [found, predicted] = await Promise.all([
          replay(lab, vectors, backend),
          predict(agent, manifest, flags, vectors, podNetwork),
        ]);
      });

      it.each(vectors.map((vector, index) => ({ ...vector, index })))(
        "$name",
        ({ index, want, isSticky }) => {
          const wanted = want[backend];
          const kernel = found[index] ?? [];
          const trace = predicted[index] ?? [];
          if (isSticky) {
            // The kernel shows one of them; the simulator names all, since it cannot know which.
            expect({ kernelChoices: kernel.length, trace }).toEqual({ kernelChoices: 1, trace: wanted });
            expect(wanted).toContain(kernel[0]);
          } else {
            expect({ kernel, trace: comparable(trace, wanted) }).toEqual({
              kernel: wanted,
              trace: comparable(wanted, wanted),
            });
          }
        },
      );
    });
  });
}

/**
 * A trace says once for all endpoints whether the packet is masqueraded. Where that depends on the endpoint (a pod that may
 * meet itself), only the endpoints are compared.
 */
function comparable(findings: readonly Finding[], wanted: readonly Finding[]): readonly Finding[] {
  const masqueraded = wanted.filter((finding) => finding.endsWith(MASQUERADED)).length;
  if (masqueraded === 0 || masqueraded === wanted.length) return findings;
  return findings.map((finding) => finding.replace(MASQUERADED, "")).sort();
}
