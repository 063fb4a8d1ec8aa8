/** Placeholder until the registry stands. */
import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { IngressPlan } from "../compile/plan.ts";

export function judgeAnnotations(_plan: IngressPlan): readonly Diagnostic[] {
  return [];
}
