export type GoProgram = "apiserver" | "helm-template" | "kubectl";
export function goProgramPath(name: GoProgram): string;
export function haveGoPrograms(): boolean;
export function buildKubernetesApiServer(): Promise<boolean>;
