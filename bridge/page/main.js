// The page: its parts put together, and its tabs.

import { CloudView } from "./cloud_view.js";
import { CompareView } from "./compare_view.js";
import { keyDialog } from "./key_dialog.js";
import { PictureTab } from "./picture_tab.js";
import { Server } from "./server.js";
import { Tabs } from "./tabs.js";

/** @param {string} id @returns {HTMLElement} */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** A figure of a template, put into a tab. @param {string} template @param {HTMLElement} tab @returns {HTMLElement} */
function figure(template, tab) {
  const copy = /** @type {HTMLTemplateElement} */ (element(template)).content.cloneNode(true);
  const figures = /** @type {HTMLElement} */ (tab.querySelector(".figures"));
  figures.append(copy);
  return /** @type {HTMLElement} */ (figures.lastElementChild);
}

const dialogs = /** @type {Record<string, HTMLDialogElement>} */ ({ key: element("key"), shutter: element("shutter") });
const askForKey = keyDialog(dialogs.key, (key) => server.signIn(key));
const server = new Server(askForKey);
const picture = element("picture");
const pictureTab = new PictureTab(
  picture,
  server,
  new CompareView(figure("compare", picture)),
  new CloudView(figure("cloud", picture)),
  dialogs.shutter,
);
new Tabs(document.querySelectorAll("[role=tab]"));
if (matchMedia("(max-width: 700px)").matches) {
  for (const details of document.querySelectorAll("details")) details.open = false;
}
await pictureTab.begin();
