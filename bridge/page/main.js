// The page: its parts put together, and its tabs.

import { CloudView } from "./cloud_view.js";
import { CompareView } from "./compare_view.js";
import { keyDialog } from "./key_dialog.js";
import { PictureTab } from "./picture_tab.js";
import { RobotTab } from "./robot_tab.js";
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

/** @param {string} id @returns {HTMLDialogElement} */
const dialog = (id) => /** @type {HTMLDialogElement} */ (element(id));

/** @type {Server} */
const server = new Server(keyDialog(dialog("key"), (key) => server.signIn(key)));
/** Both views of a tab. @param {HTMLElement} tab @returns {[CompareView, CloudView]} */
const views = (tab) => [new CompareView(figure("compare", tab)), new CloudView(figure("cloud", tab))];
const pictureTab = new PictureTab(element("picture"), server, ...views(element("picture")), dialog("shutter"));
const robotTab = new RobotTab(element("robot"), server, ...views(element("robot")));

if (matchMedia("(max-width: 700px)").matches) {
  for (const details of document.querySelectorAll("details")) details.open = false;
}

async function showServer() {
  element("server").textContent = await server.health().catch((/** @type {Error} */ error) => error.message);
}
pictureTab.onAnswer = showServer;

element("sign-out").addEventListener("click", async () => {
  await server.signOut();
  location.reload();
});

try {
  const session = await server.session();
  if (session.needs_key && !session.signed_in) await server.askForKey();
  element("sign-out").hidden = !session.needs_key;
  robotTab.hasRobot = session.robot;
} catch (error) {
  pictureTab.complain(/** @type {Error} */ (error).message);
}
new Tabs(document.querySelectorAll("[role=tab]"), () => robotTab.look());
await Promise.all([pictureTab.begin(), showServer()]);
