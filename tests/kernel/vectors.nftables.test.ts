import { describeVectors } from "./vectors-suite.ts";

describeVectors({ backend: "nftables" }, "bridged");
