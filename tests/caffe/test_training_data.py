"""Where a train net's images and labels come from."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.caffe.preprocessing import NO_MEAN
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import SoftmaxLoss
from deeplab_repro.net.other_layers import ImageSegData
from deeplab_repro.net.preprocess import MeanImage, Preprocessing
from tests.caffe.caffe_files import CONV, current, refused, v1
from tests.caffe.train_files import (
    BODY,
    CROP,
    CURRENT,
    IMAGES,
    INPUTS,
    SMALL,
    current_loss,
    found_loss,
    loss,
    rewritten,
    seg_data,
    train,
)


def test_a_data_layer_of_the_authors(tmp_path, caplog):
    images = (
        'source: "voc12/list/train_aug.txt" root_folder: "/data/" batch_size: 20 shuffle: true '
        "label_type: PIXEL ignore_label: 254"
    )
    transform = (
        "transform_param { crop_size: 17 mirror: true scale: 0.5 "
        "mean_value: [104.5, 116.25, 122.75] } include { phase: TRAIN }"
    )
    found = train(
        tmp_path,
        seg_data(images, transform)
        + 'layers { name: "silence" type: SILENCE bottom: "data_dim" }'
        + BODY
        + loss(),
    )
    assert found.data == ImageSegData(
        source="voc12/list/train_aug.txt",
        root_folder="/data/",
        batch_size=20,
        crop_size=17,
        shuffle=True,
        mirror=True,
        ignore_label=254,
    )
    assert (found.input, found.input_shape) == ("data", (20, 3, 17, 17))
    assert found.labels == {"label": (20, 1, 17, 17)}
    assert found.preprocessing == Preprocessing((104.5, 116.25, 122.75), 0.5)
    assert [layer.name for layer in found.layers] == ["y", "loss"]
    assert not caplog.messages


def test_the_old_fields_of_a_data_layer_count_where_the_new_ones_are_not_given(tmp_path):
    old = IMAGES + "label_type: PIXEL crop_size: 7 mirror: true scale: 2 "
    found = train(tmp_path, seg_data(old, "") + BODY + loss())
    assert found.data == ImageSegData("list.txt", batch_size=2, crop_size=7, mirror=True)
    assert found.preprocessing == Preprocessing(NO_MEAN, 2)
    new = "transform_param { crop_size: 9 mirror: false scale: 3 mean_value: 5 }"
    found = train(tmp_path, seg_data(old, new) + BODY + loss())
    assert found.data == ImageSegData("list.txt", batch_size=2, crop_size=9)
    assert found.preprocessing == Preprocessing((5, 5, 5), 3)


def test_a_label_type_that_is_not_there_is_pixel_and_said(tmp_path, caplog):
    found = train(tmp_path, seg_data(IMAGES) + BODY + loss())
    assert found.labels == {"label": (2, 1, 9, 9)}
    (message,) = caplog.messages
    assert message.startswith(str(tmp_path / "train.prototxt"))
    assert "layer 'data' has no label_type, taken as PIXEL" in message


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        (INPUTS + BODY + loss(), "DeepLab v1"),
        (INPUTS + BODY + loss("loss_param { ignore_label: 255 }"), "Caffe V1"),
        (CURRENT, "Caffe"),
    ],
)
def test_images_and_labels_as_inputs(tmp_path, text, dialect):
    found = train(tmp_path, text)
    assert (found.input, found.input_shape) == ("data", (2, 3, 9, 9))
    assert found.labels == {"label": (2, 1, 9, 9)}
    assert (found.data, found.preprocessing) == (None, None)
    assert found_loss(found) == SoftmaxLoss((255,))
    assert found.dialect == dialect


def test_a_data_layer_in_the_current_format(tmp_path):
    text = (
        'layer { name: "data" type: "ImageSegData" top: "data" top: "label" '
        f"image_data_param {{ {IMAGES} label_type: PIXEL }} {CROP} }}"
    )
    found = train(tmp_path, text + current("Convolution", CONV) + current_loss())
    assert found.data == ImageSegData("list.txt", batch_size=2, crop_size=9)
    assert found.labels == {"label": (2, 1, 9, 9)}


@pytest.mark.parametrize(
    ("images", "rest", "problem"),
    [
        ("label_type: NONE " + IMAGES, CROP, "label_type is NONE, .*expected PIXEL"),
        ("label_type: IMAGE " + IMAGES, CROP, "label_type is IMAGE, .*expected PIXEL"),
        ("label_type: PIXEL " + IMAGES, "", "crop_size is 0, expected one"),
        ("label_type: PIXEL source: 'a'", CROP, "batch_size is 0, expected at least 1"),
        ("label_type: PIXEL batch_size: 1", CROP, "it has no source"),
        *(
            (f"label_type: PIXEL {IMAGES} {field}", CROP, f"it sets {field.split(':')[0]}, which")
            for field in (
                *("rand_skip: 3", "new_height: 5", "new_width: 5"),
                "is_color: false",
            )
        ),
        *(
            (f"label_type: PIXEL {IMAGES}", f"transform_param {{ crop_size: 9 {field} }}", problem)
            for field, problem in (
                ("mean_file: 'm' mean_value: 1", "it sets both mean_value and mean_file"),
                ("mean_value: [1, 2]", "mean_value is 1, 2, expected one number, or three"),
                ("mean_value: nan", "mean_value is nan, nan, nan, expected"),
                ("scale: 0", "scale is 0, expected"),
                ("scale: inf", "scale is inf, expected"),
            )
        ),
    ],
)
def test_a_data_layer_that_would_train_otherwise_is_refused(tmp_path, images, rest, problem):
    text = seg_data(images, rest) + BODY + loss()
    message = refused(
        lambda: train(tmp_path, text), rf"layer 'data' \(IMAGE_SEG_DATA\): {problem}", NetError
    )
    assert message.startswith(str(tmp_path / "train.prototxt"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BODY + loss(), "has no input in its TRAIN phase, expected one IMAGE"),
        (
            'layer { name: "d" type: "Python" top: "data" top: "label" }'
            + current("Convolution", CONV)
            + current_loss(),
            "layer 'd' .Python. brings what the net is trained on, expected one IMAGE_SEG_DATA",
        ),
        (
            INPUTS + SMALL,
            "'data' and input 'label' and layer 'data' .IMAGE_SEG_DATA. bring what",
        ),
        (SMALL.replace("size: 2 ", "size: 4294967295 "), "'data' has shape 4294967295x3x9x9, exp"),
        (SMALL.replace("size: 9 ", "size: 4294967295 "), "expected sizes up to 2147483647"),
        (
            seg_data() + SMALL,
            "layer 'data' .IMAGE_SEG_DATA. and layer 'data' .IMAGE_SEG_D.* bring",
        ),
        (
            seg_data(rest=CROP + " include { phase: TEST }") + BODY + loss(),
            "has no input in its TRAIN phase",
        ),
        (
            v1("IMAGE_DATA", IMAGES.join(("image_data_param {", "}")), "", "data") + BODY + loss(),
            "layer 'data' .IMAGE_DATA.: it does not train here, expected IMAGE_SEG_DATA",
        ),
        (
            'input: "data" input_dim: [2, 3, 9, 9]' + BODY + loss(),
            "layer 'loss' takes 'label', which no layer before it makes",
        ),
        (
            'layers { name: "d" type: IMAGE_SEG_DATA }' + BODY + loss(),
            "layer 'd' .*: it has no tops",
        ),
        (
            seg_data() + v1("RELU", bottom="data_dim", top="z") + BODY + loss(),
            "layer 'y|z' .RELU.: it takes 'data_dim' of layer 'data', which is left out",
        ),
    ],
)
def test_nets_without_the_images_and_labels_to_train_on(tmp_path, text, problem):
    refused(lambda: train(tmp_path, text), problem, NetError)


# --- any of it comes back


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    data=st.builds(
        ImageSegData,
        source=st.text(min_size=1),
        root_folder=st.text(),
        batch_size=st.integers(1, 99),
        crop_size=st.integers(1, 999),
        shuffle=st.booleans(),
        mirror=st.booleans(),
        ignore_label=st.integers(-1, 255),
    ),
    how=st.builds(
        Preprocessing,
        st.tuples(*[st.floats(0, 255, width=32)] * 3) | st.just(MeanImage("mean.binaryproto")),
        st.floats(0.125, 9, width=32),
    ),
    ignored=st.lists(st.integers(-1, 300), max_size=3, unique=True).map(tuple),
    weight=st.floats(-3, 3, width=32),
    is_current=st.booleans(),
)
def test_any_data_layer_and_loss_come_back(
    tmp_path_factory, data, how, ignored, weight, is_current
):
    tmp_path = tmp_path_factory.mktemp("train")
    small = train(tmp_path, SMALL)
    conv, end = small.layers
    made = replace(
        small,
        data=data,
        input_shape=(data.batch_size, 3, data.crop_size, data.crop_size),
        labels={"label": (data.batch_size, 1, data.crop_size, data.crop_size)},
        preprocessing=how,
        layers=[conv, replace(end, op=SoftmaxLoss(ignored, weight))],
    )
    assert rewritten(made, tmp_path / "again", is_current) == made
