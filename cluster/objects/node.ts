/** Node of v1: what the choice of endpoints and of node port addresses needs. */

import { parseIpAddress } from "../ip-address.ts";
import type { Node, ObjectMeta } from "../model.ts";
import type { FieldReader } from "./field-reader.ts";
import { isBeingDeleted } from "./meta.ts";
import { quote } from "./report.ts";

export function readNode(root: FieldReader, meta: ObjectMeta): Node | undefined {
  const spec = root.map("spec");
  const status = root.map("status");
  const listed = spec?.texts("podCIDRs") ?? [];
  const single = spec?.text("podCIDR") ?? "";
  const addresses: { type: string; address: string }[] = [];
  for (const entry of status?.maps("addresses", "the address is ignored") ?? []) {
    const type = entry.requiredText("type");
    const address = entry.requiredText("address");
    if (address !== "" && type.endsWith("IP") && parseIpAddress(address) === undefined)
      entry.fail("address", `${quote(address)} is no IP address`);
    if (!entry.failed) addresses.push({ type, address });
  }
  const taints: { key: string; value?: string; effect: string }[] = [];
  for (const entry of spec?.maps("taints", "the taint is ignored") ?? []) {
    const key = entry.requiredText("key");
    const effect = entry.requiredText("effect");
    const value = entry.text("value");
    if (!entry.failed) taints.push({ key, effect, ...(value === undefined ? {} : { value }) });
  }
  if (root.failed) return undefined;
  return {
    kind: "Node",
    meta,
    addresses,
    podCIDRs: listed.length > 0 ? listed : single === "" ? [] : [single],
    taints,
    deleting: isBeingDeleted(root),
  };
}
