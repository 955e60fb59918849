"""Quality of a reconstruction."""

from math import inf, nan

from latens.metrics.metric import Metric, first

QUALITY: tuple[Metric, ...] = (
    Metric(
        "psnr",
        "PSNR",
        "dB",
        "higher",
        nan,
        "10 log₁₀(L²/MSE) with the range L of the data set; mean over images of the decibels.",
        ("psnr",),
        first,
    ),
    Metric(
        "ssim",
        "SSIM",
        "",
        "higher",
        1.0,
        "Structural similarity, Gaussian window of 11 taps and σ = 1.5 (3-D for volumes), "
        "constants from the range L of the data set; mean over windows, channels, images.",
        ("ssim",),
        first,
        (-1.0, 1.0),
    ),
    Metric(
        "nmse",
        "NMSE",
        "",
        "lower",
        0.0,
        "‖x̂ − x‖²/‖x‖², Euclidean norms over the event; mean over images.",
        ("nmse",),
        first,
        (0.0, inf),
    ),
    Metric(
        "rre",
        "relative error",
        "",
        "lower",
        0.0,
        "‖x̂ − x‖/‖x‖, √NMSE of each image, Euclidean norms over the event; mean over images, so "
        "that it is at most the root of the mean NMSE.",
        ("rre",),
        first,
        (0.0, inf),
    ),
    Metric(
        "mse",
        "MSE",
        "signal²",
        "lower",
        0.0,
        "‖x̂ − x‖²/d, mean over the event, then over images.",
        ("mse",),
        first,
        (0.0, inf),
    ),
    Metric(
        "data_chi2",
        "data residual χ²/m",
        "",
        "target",
        1.0,
        "Mean of (y − E[y | x̂])²/Var[y | x̂] over the m elements of y, mean over images; "
        "1 − (effective degrees of freedom)/m is expected of a good estimate, and `expected_chi2` "
        "or more of one that is as sensitive to the noise.",
        ("data_chi2",),
        first,
        (0.0, inf),
    ),
    Metric(
        "data_deviance",
        "data residual, Poisson deviance",
        "",
        "target",
        nan,
        "2 Σ [u log(u/û) − (u − û)]/m over the m elements, mean over images, of noise that counts "
        "photons: u = y/gain + τ², cut at 0, and û = E[y | x̂]/gain + τ², with the standard "
        "deviation τ of the read-out noise in photons, which makes u nearly Poisson. At the true "
        "signal 1 where û is large, 1.05 at 5, 1.16 at 1.5, .47 at .1; χ²/m is 1 there at every "
        "brightness.",
        ("data_deviance",),
        first,
        (0.0, inf),
    ),
    Metric(
        "psnr_draw",
        "PSNR of a draw",
        "dB",
        "higher",
        nan,
        "10 log₁₀(L²/MSE) of a single posterior draw with the range L of the data set; mean over "
        "draws and images of the decibels. About 3 dB below that of the mean for an exact "
        "posterior: a draw pays for detail that the mean leaves out.",
        ("psnr",),
        first,
    ),
    Metric(
        "ssim_draw",
        "SSIM of a draw",
        "",
        "higher",
        1.0,
        "Structural similarity of one posterior draw and the truth, as SSIM; mean over windows, "
        "channels, images. To be compared with other draws, never with a mean.",
        ("ssim",),
        first,
        (-1.0, 1.0),
    ),
)
