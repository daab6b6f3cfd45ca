"use strict";
// One player at a time; buttons and keys 1 to 9 go to another version of the file at the same moment.
const players = [...document.querySelectorAll("audio")];
let current = null;
const versions = (player) => [...player.closest(".versions").querySelectorAll("audio")];
const buttons = (player) => player.closest(".versions").previousElementSibling.children;

function mark(player, chosen) {
  player.closest(".version").classList.toggle("chosen", chosen);
  buttons(player)[versions(player).indexOf(player)].setAttribute("aria-pressed", chosen);
}

function choose(player) {
  if (current) mark(current, false);
  current = player;
  mark(player, true);
}

function alone(player) {
  for (const other of players) if (other !== player) other.pause();
  choose(player);
}

function start(player) {
  alone(player); // at once: the event of playing comes later
  // Rejected where the next click or key comes before the sound: no matter.
  player.play().catch(() => {});
}

for (const player of players) {
  const cell = player.closest(".version");
  const picture = cell.querySelector(".picture");
  const line = picture.querySelector("i");
  player.addEventListener("play", () => {
    alone(player);
    const follow = () => {
      line.style.display = "block";
      line.style.left = `${(100 * player.currentTime) / player.duration}%`;
      if (!player.paused) requestAnimationFrame(follow);
    };
    follow();
  });
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    player.currentTime = (player.duration * (event.clientX - box.left)) / box.width;
    start(player);
  });
}

function change(next, play) {
  const before = current;
  if (next === before) return play && start(next);
  if (before && versions(before).includes(next)) {
    before.pause();
    next.currentTime = Math.min(before.currentTime, next.duration || 0);
  }
  choose(next);
  if (play) start(next);
}

for (const bar of document.querySelectorAll(".switch")) {
  const players = bar.nextElementSibling.querySelectorAll("audio");
  [...bar.children].forEach((button, i) => button.addEventListener("click", () => change(players[i], true)));
}

document.addEventListener("keydown", (event) => {
  if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
  const next = versions(current)[Number(event.key) - 1];
  if (next && next !== current) change(next, !current.paused);
});
