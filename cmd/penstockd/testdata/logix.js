// A third party's EtherNet/IP client for Node: LIBRARY ADDRESS STEP... as the steps of
// internal/plant/logix: connect, read TAG, write TAG=VALUE. It writes a line about each.
const [library, address, ...steps] = process.argv.slice(2);
const { Controller, Tag } = require(library);

const patience = (promise) => {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("no answer in 4 s")), 4000); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

const text = (err) => {
  if (err instanceof Error) return err.message;
  return JSON.stringify(err) || String(err);
};

(async () => {
  const plc = new Controller();
  plc.on("error", (err) => console.log("connection: error: " + text(err)));
  for (const step of steps) {
    const [name, argument = ""] = step.split(" ");
    try {
      let got = "done";
      if (name === "connect") {
        // Without listing the controller's tags.
        await patience(library === "ethernet-ip" ? plc.connect(address, 0) : plc.connect(address, Buffer.from([1, 0]), false));
      } else if (name === "read") {
        const tag = new Tag(argument);
        await patience(plc.readTag(tag));
        got = String(tag.value);
      } else if (name === "write") {
        const [where, value] = argument.split("=");
        const tag = new Tag(where, null, 0xc4);
        tag.value = Number(value);
        await patience(plc.writeTag(tag));
      } else {
        throw new Error("there is no such step");
      }
      console.log(step + ": " + got);
    } catch (err) {
      console.log(step + ": error: " + text(err));
    }
  }
  process.exit(0);
})();
