/** Headers of the operator's own, from ConfigMaps that the controller's ConfigMap names (`namespace/name`). */

import type { Template } from "../../edge-config/template.ts";
import { isHeaderName, quote, text } from "../annotations/readers.ts";
import { parseTemplate } from "../annotations/template.ts";
import { defineFeature, type RouteContext } from "./feature.ts";

const NAME = { pattern: /^[a-z0-9.-]+\/[a-z0-9.-]+$/, expected: "namespace/name of a ConfigMap" } as const;
const VALUE = /^[\t\x20-\x7e\x80-\uffff]{0,4096}$/;

export const addedHeaders = defineFeature("addedHeaders", {
  scope: "route",
  onInvalid: "ignore",
  doc: "Sends headers of the operator's own with every request to a pod, and with every answer of a route.",
  annotations: {},
  settings: {
    "add-headers": text("A ConfigMap whose entries go to clients; values are literal.", NAME),
    "proxy-set-headers": text("A ConfigMap whose entries go to pods; values may hold variables.", {
      ...NAME,
      difference: "Only the variables that annotations know; an entry with any other is left out.",
    }),
  },
  compile(_annotations, context, settings) {
    const toClient = entries("add-headers", settings["add-headers"], context);
    const toPod = entries("proxy-set-headers", settings["proxy-set-headers"], context).flatMap(
      ([name, written]): readonly (readonly [string, Template])[] => {
        const template = parseTemplate(written);
        if (template.kind === "Value") return [[name, template.value]];
        context.remark(
          "error",
          "proxy-set-headers",
          `has ${quote(written)} for ${name}, but ${template.expected} was expected; the header is left out.`,
        );
        return [];
      },
    );
    return toClient.length === 0 && toPod.length === 0 ? undefined : { toClient, toPod };
  },
});

/** By name; what is no header is told and left out. */
function entries(
  key: string,
  named: string | undefined,
  { configMap, remark }: RouteContext,
): readonly (readonly [name: string, value: string])[] {
  if (named === undefined) return [];
  const [namespace = "", name = ""] = named.split("/");
  const found = configMap({ namespace, name }, "controller");
  if (found.kind === "Missing") {
    remark("error", key, `cannot be used: ${found.reason}; no headers are added.`);
    return [];
  }
  return Object.entries(found.object.data)
    .filter(([header, content]) => {
      const isRight = isHeaderName(header) && VALUE.test(content);
      if (!isRight)
        remark(
          "error",
          key,
          `names ConfigMap ${found.name}, whose entry ${quote(header)} is no header; it is left out.`,
        );
      return isRight;
    })
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
