import { describeChurn } from "./churn.ts";

describeChurn("nftables", { services: 300, rounds: 20, changesARound: 100 });
