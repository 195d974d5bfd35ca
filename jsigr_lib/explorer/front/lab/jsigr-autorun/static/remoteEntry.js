// A JupyterLab extension without a build: the container that JupyterLab's loader looks for, with one plugin in it.
// It runs all cells of the explorer's notebook, once, if that is what JupyterLab was opened at, and nothing else.
(() => {
  const NOTEBOOK = "notebooks/explorer.ipynb";
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  async function found(look, what) {
    for (let tries = 0; tries < 300; tries++, await pause(100)) {
      const one = look();
      if (one) return one;
    }
    throw new Error(`${what} did not appear`);
  }

  async function activate(app) {
    if (!decodeURI(location.pathname).endsWith(`/tree/${NOTEBOOK}`)) return;
    const open = () => [...app.shell.widgets("main")].find((panel) => panel.context?.path === NOTEBOOK);
    const panel = await found(open, NOTEBOOK);
    await Promise.all([panel.context.ready, panel.sessionContext.ready, panel.revealed]);
    app.shell.activateById(panel.id);
    app.shell.collapseLeft();
    await app.commands.execute("notebook:run-all-cells");
    const explorer = await found(() => panel.node.querySelector(".jsigr-explorer[data-drawn]"), "the explorer");
    explorer.scrollIntoView({ block: "start" });
  }

  const plugin = { id: "jsigr-autorun:plugin", autoStart: true, activate: (app) => void activate(app) };
  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB["jsigr-autorun"] = { init: () => {}, get: async () => () => ({ __esModule: true, default: plugin }) };
})();
