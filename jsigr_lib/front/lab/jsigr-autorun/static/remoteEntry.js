// A JupyterLab extension without a build: the container that JupyterLab's loader looks for, with one plugin in it.
// It runs all cells of the explorer's notebook, once, if that is what JupyterLab was opened at, and nothing else.
(() => {
  const NOTEBOOK = "notebooks/explorer.ipynb";
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  async function opened(shell) {
    for (let tries = 0; tries < 300; tries++, await pause(100)) {
      for (const panel of shell.widgets("main")) if (panel.context?.path === NOTEBOOK) return panel;
    }
    throw new Error(`${NOTEBOOK} did not open`);
  }

  async function activate(app) {
    if (!decodeURI(location.pathname).endsWith(`/tree/${NOTEBOOK}`)) return;
    const panel = await opened(app.shell);
    await Promise.all([panel.context.ready, panel.sessionContext.ready, panel.revealed]);
    app.shell.activateById(panel.id);
    await app.commands.execute("notebook:run-all-cells");
    app.shell.collapseLeft();
  }

  const plugin = { id: "jsigr-autorun:plugin", autoStart: true, activate: (app) => void activate(app) };
  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB["jsigr-autorun"] = { init: () => {}, get: async () => () => ({ __esModule: true, default: plugin }) };
})();
