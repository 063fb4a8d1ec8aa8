/** How requests are spread over a backend. Reference §1, `load-balance`, `upstream-hash-by*`. */

import { choice, flag, integer, template } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

export const balancing = defineFeature("balancing", {
  scope: "backend",
  onInvalid: "ignore",
  doc: "How requests are spread over the endpoints of a backend. `upstream-hash-by` counts before `load-balance`, and a session cookie before both.",
  annotations: {
    "load-balance": choice(
      "`round_robin`, or `ewma` for the quicker of two at random.",
      ["round_robin", "ewma"],
      {
        default: "round_robin",
        setting: "load-balance",
        difference:
          "Each isolate of the edge has its own turns and its own measurements; they start at a random place.",
      },
    ),
    "upstream-hash-by": template(
      "Text that decides: the same text goes to the same endpoint, and few move when one comes or goes.",
    ),
    "upstream-hash-by-subset": flag("The same text goes to a few endpoints, at random among them.", {
      default: false,
    }),
    "upstream-hash-by-subset-size": integer("How many they are; 0 counts as 3.", { default: 3, max: 10_000 }),
  },
  compile(annotations) {
    const key = annotations["upstream-hash-by"];
    if (key !== undefined) {
      const subsetSize = annotations["upstream-hash-by-subset-size"] || 3;
      return { kind: "Hash", key, ...(annotations["upstream-hash-by-subset"] ? { subsetSize } : {}) };
    }
    return annotations["load-balance"] === "ewma" ? { kind: "Ewma" } : undefined;
  },
});
