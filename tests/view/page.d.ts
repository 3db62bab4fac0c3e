// What tsc need not know exactly: elements of the page's own HTML are what the script that asks for them expects.

interface ParentNode {
  querySelector(selectors: string): any;
  querySelectorAll(selectors: string): NodeListOf<any>;
}
interface Document {
  getElementById(id: string): any;
}
declare const uPlot: any;
