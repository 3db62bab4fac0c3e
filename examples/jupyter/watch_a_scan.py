# %% [markdown]
# # Watch a scan from a notebook
#
# Everything on tomolive's page is a JSON API as well. This notebook watches the scan that runs, looks at any
# plane, mends the rotation centre and tells whether the scan is worth going on with. Start something to watch
# with `tomolive demo --page 127.0.0.1:8000`, then run the cells.

# %%
import io
import os
import time

import httpx
import numpy as np

PAGE = os.environ.get("TOMOLIVE_PAGE", "http://127.0.0.1:8000")
token = os.environ.get("TOMOLIVE_TOKEN")
headers = {"Authorization": f"Bearer {token}"} if token else {}
page = httpx.Client(base_url=f"{PAGE.rstrip('/')}/api/", headers=headers, timeout=60)


def get_state():
    """Return every field of the state: which scan, how far, what is missing, what was set and by whom."""
    return page.get("state").raise_for_status().json()


def wait_until(condition, seconds=120):
    """Ask for the state until it is as wanted."""
    end = time.monotonic() + seconds
    while not condition(state := get_state()):
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s the state is still {state['state']}: {state['message']}")
        time.sleep(0.2)
    return state


# %% [markdown]
# ## How the scan goes

# %%
state = wait_until(lambda state: state["pictures"])
print(f"scan {state['scan_id']}, {state['sample']}: {state['state']}")
print(f"{state['frames_received']} of {state['frames_planned']} projections")
print(f"missing: {state['missing'] or 'none'}")
print(state["message"] or "nothing to worry about")

# %% [markdown]
# ## Is it worth going on with?
#
# Each number comes with its threshold. `warning` says in words what is wrong.

# %%
for trend in state["trends"]:
    newest = trend["points"][-1][1] if trend["points"] else None
    print(f"{trend['name']}: {newest} {trend['units']} {trend['warning']}")

# %% [markdown]
# ## Look at any plane
#
# The pixels are float32, as they were reconstructed. A plane that nobody looks at is drawn for you. The
# header `Tomolive-Picture` says of which scan it is, and with which centre and filter it was made.


# %%
def get_picture(plane, **place):
    """Return the pixels of one picture: `position` for xy, xz, yz and sinogram; `tilt`, `turn`, `offset`."""
    reply = page.get(f"slices/{plane}.npy", params=place).raise_for_status()
    return np.load(io.BytesIO(reply.content))


rows = state["volume_shape"][0]
lower = get_picture("xy", position=rows // 4)
upright = get_picture("oblique", tilt=90, turn=45, offset=0)
sinogram = get_picture("sinogram", position=rows // 4)
print(lower.shape, lower.dtype, upright.shape, sinogram.shape)

# %%
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("pip install matplotlib to see the pictures")
else:
    figure, axes = plt.subplots(1, 3, figsize=(12, 4))
    for axis, pixels in zip(axes, (lower, upright, sinogram), strict=True):
        axis.imshow(pixels, cmap="gray")

# %% [markdown]
# ## Mend the rotation centre
#
# What you set holds for everybody who watches this scan, and your name is told with it.

# %%
wanted = round(state["center"] + 0.5, 2)
page.post("center", json={"center": wanted, "who": "notebook"}).raise_for_status()
state = wait_until(lambda state: state["center"] == wanted and not state["pending"])
print(f"rotation centre {state['center']}, {state['center_source']}")

# %% [markdown]
# A mistake is answered in words:

# %%
reply = page.post("center", json={"center": -3})
print(reply.status_code, reply.json()["error"])

# %% [markdown]
# All that can be asked for, with its fields, is in the OpenAPI document:

# %%
paths = page.get("openapi.json").json()["paths"]
print("\n".join(sorted(paths)))
page.close()
